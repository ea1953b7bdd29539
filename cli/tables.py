"""`tritape tables-test`: whether the constants inside a bitstream, and its state memory, are what they were made to be."""

from __future__ import annotations

from typing import Annotated

import typer

from tritape.cli import app
from tritape.cli.common import out, progress, report, write_json
from tritape.cli.device import Baud, BoardName, Port, open_device
from tritape.cli.model import JsonFile
from tritape.host.tables_test import tables_test as run


@app.command()
def tables_test(
    port: Port,
    seed: Annotated[int, typer.Option(help="Of the model and the patterns.")] = 0,
    board: BoardName = None,
    baud: Baud = None,
    json_file: JsonFile = None,
) -> None:
    """Compare tables (sigma, the sampler's noise, the engine's filler) and the state memory with the golden model.

    A tape that was there is lost. Ends with status 1 when something differs; load the bitstream again then.
    """
    with open_device(port, board, baud) as device, progress("testing") as update:
        result = run(device, seed=seed, progress=update)
    if json_file is not None:
        write_json(json_file, result)
    for one in result["wrong"]:
        out.print(
            f"{one['table']} {one['place']} must be {one['expected']}, not {one['found']}; load the bitstream again"
        )
    shown = {key: value for key, value in result.items() if key != "wrong"}
    report(shown, None, "compared with the golden model, bit for bit")
    if result["wrong"]:
        raise typer.Exit(1)
