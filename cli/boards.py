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
    """List the boards: device, memory, clock, link, the largest model that fits, and whether a bitstream is here."""
    from tritape.rtl_gen.boards import boards as find

    entries = [describe(board) for board in find().values()]
    rows = [("board", "device", "tape memory", "MHz", "link, Mbaud", "largest model", "state")]
    rows += [
        (
            entry["board"],
            entry["device"],
            f"{memory_size(entry['memory_bytes'])} {entry['memory']}",
            f"{entry['clock_hz'] / 1e6:g}",
            entry["link"] + (f", {entry['baud'] / 1e6:g}" if entry["baud"] else ""),
            size(entry["largest_model"]),
            entry["state"],
        )
        for entry in entries
    ]
    widths = [max(map(len, column)) for column in zip(*rows)]
    for row in rows:
        out.print("  ".join(cell.ljust(width) for cell, width in zip(row, widths)).rstrip(), highlight=False)
    if json_file is not None:
        write_json(json_file, entries)


def memory_size(count: int) -> str:
    """Bytes in a few characters."""
    return f"{count / (1 << 20):.0f} MiB" if count >= 1 << 22 else f"{count / 1024:.0f} KiB"


def size(model: dict[str, int] | None) -> str:
    """A shape in a few characters."""
    if model is None:
        return "none"
    return f"{model['num_hidden_layers']} x {model['hidden_size']}, vocabulary {model['vocab_size']}"


def describe(board: Any) -> dict[str, Any]:
    """One board, ready for JSON."""
    from dataclasses import asdict

    from tritape.rtl_gen.archive import state
    from tritape.rtl_gen.fit import largest_model

    model = largest_model(board)
    fields = ("vocab_size", "hidden_size", "num_hidden_layers", "intermediate_size")
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
        "largest_model": None if model is None else {field: getattr(model, field) for field in fields},
        "model": board.model,
        "state": state(board),
    }
