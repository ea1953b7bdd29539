"""`tritape verify`: what is loaded is what was tested."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from tritape.base.errors import TritapeError
from tritape.cli import app
from tritape.cli.common import console, model_path, opened, output_file, report
from tritape.model.codes import SPARSE4
from tritape.model.data import embedded_models


@app.command()
def verify(
    name: Annotated[str, typer.Argument(metavar="BOARD", help="A board with open tools that `tritape boards` lists.")],
    level: Annotated[str, typer.Option(help="netlist (Yosys' cells) or routed (nextpnr's packed cells).")] = "netlist",
    tokens: Annotated[int, typer.Option(help="Tokens to generate and compare.")] = 12,
    model: Annotated[
        Path | None,
        typer.Option(
            help="Checkpoint folder, or a name (default: nano; on a 3:4 board that of --brief).", callback=model_path
        ),
    ] = None,
    brief: Annotated[
        bool, typer.Option(help="The tiny random model that `tritape build` takes, in place of nano: minutes less.")
    ] = False,
    json_file: Annotated[
        Path | None, typer.Option("--json", help="Write the result to this file.", callback=output_file)
    ] = None,
) -> None:
    """Run a board's netlist in simulation, over its UART pins at its baud rate, against the golden model."""
    from tritape.rtl_gen.boards import Board
    from tritape.rtl_gen.boards import board as find
    from tritape.sim.netlist.verify import brief_model
    from tritape.sim.netlist.verify import verify as run

    board = find(name)
    if not isinstance(board, Board):
        raise TritapeError(f"board must be one with a UART and open tools, not {name!r}; choose another")
    if brief and model is not None:
        raise TritapeError(f"model must be left out beside --brief, not {str(model)!r}; take away one of the two")
    if brief or (model is None and board.config.weight_code is SPARSE4):
        quantised, label = brief_model(board), "random"
    else:
        source = opened(model or embedded_models()["nano"])
        quantised, label = source.quantised, source.name
    with console.status(f"{name}: starting") as status:

        def tell(line: str) -> None:
            status.update(f"{name}: {line}")

        result = run(board, quantised, label, level=level, tokens=tokens, progress=tell)
    report(result.as_dict(), json_file, f"{board.title}: the {level} design writes the golden model's tokens")
