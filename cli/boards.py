"""`tritape boards`: what there is to build for."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from tritape.cli import app
from tritape.cli.common import out, output_file, write_json


@app.command()
def boards(
    json_file: Annotated[
        Path | None, typer.Option("--json", help="Write the list to this file.", callback=output_file)
    ] = None,
) -> None:
    """List the boards: device, memory, clock, link, whether a bitstream is here, and which of the embedded models and published
    shapes fit, with their projected tokens a second."""
    from tritape.rtl_gen.boards import boards as find

    entries = [describe(board) for board in find().values()]
    if json_file is not None:
        write_json(json_file, entries)
    rows = [("board", "device", "tape memory", "MHz", "link, Mbaud", "state", "models that fit, projected tokens/s")]
    rows += [
        (
            entry["board"],
            entry["device"],
            f"{memory_size(entry['memory_bytes'])} {entry['memory']}",
            f"{entry['clock_hz'] / 1e6:g}",
            entry["link"] + (f", {entry['baud'] / 1e6:g}" if entry["baud"] else ""),
            entry["state"],
            rates(entry["models"]),
        )
        for entry in entries
    ]
    widths = [max(map(len, column)) for column in zip(*rows)]
    for row in rows:
        out.print("  ".join(cell.ljust(width) for cell, width in zip(row, widths)).rstrip(), highlight=False)


def memory_size(count: int) -> str:
    """Bytes in a few characters."""
    return f"{count / (1 << 20):.0f} MiB" if count >= 1 << 22 else f"{count / 1024:.0f} KiB"


def rates(models: dict[str, dict[str, Any]]) -> str:
    """The models that fit, each with its rate."""
    return (
        ", ".join(f"{name} {size['tokens_per_second']:,.0f}" for name, size in models.items() if size["fits"]) or "none"
    )


def describe(board: Any) -> dict[str, Any]:
    """One board, ready for JSON."""
    from dataclasses import asdict

    from tritape.rtl_gen.archive import state
    from tritape.rtl_gen.sizes import model_sizes

    return {
        "board": board.name,
        "title": board.title,
        "device": board.device,
        "family": board.family,
        "memory": board.memory,
        "memory_bytes": board.memory_bytes,
        "clock_hz": board.clock_hz,
        "link": board.link,
        "baud": board.baud,
        "limits": asdict(board.config),
        "configuration_hash": f"{board.config.hash64():016x}",
        "models": model_sizes(board),
        "model": board.model,
        "state": state(board),
    }
