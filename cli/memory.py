"""`tritape memory-test`: whether a board's memory keeps what is written."""

from __future__ import annotations

from typing import Annotated

import typer

from tritape.cli import app
from tritape.cli.common import out, progress, report, write_json
from tritape.cli.device import Baud, BoardName, Port, open_device
from tritape.cli.model import JsonFile
from tritape.host.memory_test import memory_test as run

WORDS = 1 << 16
"""Words that are tested unless --words says otherwise."""


@app.command()
def memory_test(
    port: Port,
    first: Annotated[int, typer.Option(help="Word address to begin at.")] = 0,
    words: Annotated[
        int | None, typer.Option(help=f"Words to test (default: up to the end, at most {WORDS:,}).")
    ] = None,
    seed: Annotated[int, typer.Option(help="Of the random pattern.")] = 0,
    board: BoardName = None,
    baud: Baud = None,
    json_file: JsonFile = None,
) -> None:
    """Fill memory with patterns and check them: wrong words with their addresses, and rates. A tape that was there is lost."""
    with open_device(port, board, baud) as device:
        count = min(device.identity.memory_words - first, WORDS) if words is None else words
        with progress("testing") as update:
            result = run(device, first, count, seed=seed, progress=update)
    if json_file is not None:
        write_json(json_file, result)
    for one in result["wrong"]:
        out.print(f"{one['pattern']}: word {one['address']} must be {one['expected']}, not {one['read']}")
    shown = {key: value for key, value in result.items() if key != "wrong"}
    report(shown, None, "measured on this machine's clock: the link and the device's CRC, not what the memory can do")
    if sum(result["errors"].values()) + result["unstable"]:
        raise typer.Exit(1)
