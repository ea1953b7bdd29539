"""`tritape program`: a bitstream onto a board."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Annotated, Any

import typer

from tritape.cli import app
from tritape.cli.common import out, report
from tritape.cli.device import Baud, open_device
from tritape.cli.model import JsonFile


@app.command()
def program(
    board: Annotated[str, typer.Argument(metavar="BOARD", help="A board that `tritape boards` lists.")],
    archive: Annotated[Path, typer.Argument(help="Archive that `tritape build` wrote, or one of bitstreams/.")],
    flash: Annotated[bool, typer.Option("--flash", help="Write to flash: stays after power off.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Check the archive and print the command only.")] = False,
    port: Annotated[
        str | None, typer.Option("--port", "-p", help="Then ask the device at this port what it is, and test it.")
    ] = None,
    baud: Baud = None,
    json_file: JsonFile = None,
) -> None:
    """Load a bitstream with openFPGALoader, after its archive was checked."""
    from tritape.host.program import check_archive, command
    from tritape.host.program import program as load
    from tritape.rtl_gen.boards import board as find

    found = find(board)
    if dry_run:
        about, _ = check_archive(found, archive)
        out.print(shlex.join(command(found, Path(about["bitstream"]), flash=flash)), highlight=False)
        return
    about = load(found, archive, flash=flash)
    result: dict[str, Any] = {key: about[key] for key in ("board", "configuration_hash", "bitstream")}
    if port is not None:
        with open_device(port, board, baud) as device:
            result |= {"self_test": device.self_test()}
    report(result, json_file, f"{board}: programmed")
