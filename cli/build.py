"""`tritape build`: a board's bitstream."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from tritape.base.errors import TritapeError
from tritape.cli import app
from tritape.cli.common import console, model_path, output_file, report
from tritape.model.codes import TERNARY5
from tritape.model.config import ModelConfig
from tritape.model.data import embedded_models


@app.command()
def build(
    name: Annotated[str, typer.Argument(metavar="BOARD", help="A board that `tritape boards` lists.")],
    model: Annotated[
        Path | None,
        typer.Option(
            help="Checkpoint folder, or a name, that must fit (default: the board's, if it fits).", callback=model_path
        ),
    ] = None,
    seeds: Annotated[int, typer.Option(help="Placements to try until the clock is met.")] = 4,
    jobs: Annotated[int, typer.Option(help="Placements at the same time.")] = 1,
    clock: Annotated[float | None, typer.Option(help="MHz to aim at (default: the board's).")] = None,
    output: Annotated[Path | None, typer.Option("-o", "--output", help="Folder (default: build/BOARD).")] = None,
    verify: Annotated[
        bool, typer.Option(help="Run the netlist in simulation against the golden model, beside placement.")
    ] = True,
    json_file: Annotated[
        Path | None, typer.Option("--json", help="Write the result to this file.", callback=output_file)
    ] = None,
) -> None:
    """Build a board's bitstream with open tools: synthesis, place and route with timing met, a run of the netlist, archive."""
    from dataclasses import replace

    from tritape.base.run import StepError
    from tritape.model.checkpoint import load_checkpoint
    from tritape.rtl_gen.boards import board as find
    from tritape.rtl_gen.build import build as run
    from tritape.rtl_gen.estimate import token_cycles
    from tritape.rtl_gen.fit import check_model
    from tritape.sim.netlist.verify import brief

    board = find(name)
    if clock is not None:
        if not clock > 0:
            raise TritapeError(f"clock must be positive, not {clock!r}; give MHz")
        board = replace(board, clock_hz=round(clock * 1e6))
    shape: ModelConfig | None = ModelConfig.from_file((model or embedded_models()[board.model]) / "config.json")
    if model is None and shape is not None and check_model(board, shape):
        shape = None
    code = board.config.weight_code
    if model is not None and code is not TERNARY5:
        load_checkpoint(model).check_code(code)
    folder = Path("build") / board.name if output is None else output
    try:
        with console.status(f"{name}: starting") as status:

            def tell(number: int, total: int, step: str, detail: str) -> None:
                line = f"[{number}/{total}] {step}" + (f": {detail}" if detail else "")
                status.update(f"{name} \\{line}")
                console.print(line, highlight=False)

            result = run(
                board, folder, model=shape, seeds=seeds, jobs=jobs, check=brief if verify else None, progress=tell
            )
    except StepError as error:
        console.print(error.tail, highlight=False)
        raise
    numbers = result.as_dict()
    shown = dict(numbers)
    if shape is not None:
        cycles = token_cycles(shape, board.config, board.word_cycles)[0]
        shown["cycles_per_token"] = round(cycles)
        shown["tokens_per_second"] = round(result.clock_mhz * 1e6 / cycles)
    report(shown, json_file, f"{board.title}; tokens per second: this clock over the cycle model")
