"""`tritape program`, `flash`: a bitstream onto a board; a tape into the flash of one that runs by itself."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Annotated, Any

import typer

from tritape.cli import app
from tritape.cli.common import IgnoreEOS, left_out, out, output_file, report
from tritape.cli.device import Baud, open_device
from tritape.cli.model import JsonFile


@app.command()
def program(
    context: typer.Context,
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
        left_out(context, "beside --dry-run, which loads nothing", "port", "json_file")
    if port is None:
        left_out(context, "without --port", "baud")
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


@app.command()
def flash(
    context: typer.Context,
    board: Annotated[str, typer.Argument(metavar="BOARD", help="A board with its tape in flash (icebreaker-flash).")],
    tape: Annotated[Path, typer.Argument(help="Tape, packed for the board's groups and rows.")],
    prompt: Annotated[str, typer.Option(help="Where the text begins; written too.")],
    tokens: Annotated[int, typer.Option(help="Tokens that follow, up to 65,536.")] = 200,
    temperature: Annotated[float, typer.Option(help="0: always the likeliest token.")] = 0.0,
    seed: Annotated[int, typer.Option(help="Of the sampler; 0: its default.")] = 0,
    ignore_eos: IgnoreEOS = False,
    output: Annotated[
        Path | None,
        typer.Option("-o", "--output", help="Write the image here and nothing to a board.", callback=output_file),
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Check the tape and print the commands only.")] = False,
    json_file: JsonFile = None,
) -> None:
    """Put a tape and a prompt into a board's flash, so that it writes text at power-up, without a host."""
    from tritape.base.files import replacing
    from tritape.host.flash import flash_command, iceprog_command, require_flash, write_flash
    from tritape.host.flash import flash_image as make
    from tritape.model.tape.container import read_tape
    from tritape.rtl_gen.boards import board as find

    if dry_run:
        left_out(context, "beside --dry-run", "json_file")
    found = require_flash(find(board))
    image, about = make(
        found,
        read_tape(tape),
        prompt,
        tokens,
        temperature=temperature,
        seed=seed,
        ignore_eos=ignore_eos,
        source=str(tape),
    )
    if output is not None:
        with replacing(output) as stream:
            stream.write(image)
    if dry_run:
        path = output or Path(f"{board}.bin")
        for line in (flash_command(found, path), iceprog_command(found, path)):
            out.print(shlex.join(line), highlight=False)
        return
    if output is None:
        write_flash(found, image)
    report(about, json_file, f"{board}: {'image in ' + str(output) if output else 'tape in flash'}")
