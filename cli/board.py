"""`tritape board --pty`: a board without a board."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from tritape.base.errors import TritapeError
from tritape.cli import app
from tritape.cli.common import build_progress, console, output_file


@app.command()
def board(
    name: Annotated[str, typer.Argument(metavar="BOARD", help="A board that `tritape boards` lists.")],
    pty: Annotated[bool, typer.Option("--pty", help="Offer it as a pseudo-terminal.")] = False,
    flash: Annotated[
        Path | None, typer.Option(help="For a board with its tape in flash: the image that `tritape flash -o` wrote.")
    ] = None,
    record: Annotated[
        Path | None, typer.Option(help="Write every byte of the session to this file.", callback=output_file)
    ] = None,
) -> None:
    """Run a board in simulation, UART pins and all, behind a serial port whose path is printed. Ctrl-C ends it."""
    from tritape.rtl_gen.boards import board as find
    from tritape.sim.virtual_board import VirtualBoard

    found = find(name)
    if not pty:
        raise TritapeError("a virtual board must be offered somewhere, not nowhere; add --pty")
    image = None if flash is None else _image(flash)
    with build_progress(f"building {name}") as tell:
        virtual = VirtualBoard(found, record=record, flash=image, progress=tell)
    try:
        with virtual:
            typer.echo(virtual.port)
            virtual.wait()
    except KeyboardInterrupt:
        console.print(f"{name} ended")


def _image(path: Path) -> bytes:
    if not path.is_file():
        raise TritapeError(f"{path}: image must be a file, not missing; make one with `tritape flash -o`")
    return path.read_bytes()
