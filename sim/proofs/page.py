"""The table of docs/verification.md, made from what the proofs say of themselves."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tritape.sim.proofs.units import UNITS

PAGE = "docs/verification.md"
BEGIN, END = "<!-- proofs -->", "<!-- end of proofs -->"
HOLES, HOLES_END = "<!-- components -->", "<!-- end of components -->"


def write_page(path: Path, rows: Sequence[Mapping[str, Any]]) -> None:
    """Put the tables into the page, between their marks."""
    text = path.read_text()
    for begin, end, lines in ((BEGIN, END, table(rows)), (HOLES, HOLES_END, holes())):
        head, _, rest = text.partition(begin)
        _, _, tail = rest.partition(end)
        text = "\n".join([head + begin, "", *lines, "", end + tail])
    path.write_text(text)


def table(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """Lines of the table of proofs."""
    lines = ["| proof | property | assumption | method | seconds | fault that it finds |", "|---|---|---|---|---|---|"]
    return lines + [
        f"| {row['name']} | {row['property']} | {row['assumption'] or '-'} | {row['method']} | {row['seconds']} | "
        f"{str(row['mutation']).replace('|', chr(92) + '|').replace(chr(10), ' ')} |"
        for row in rows
    ]


def holes() -> list[str]:
    """Lines of the table of components without a proof of their streams."""
    lines = ["| component | why its streams are not proved |", "|---|---|"]
    return lines + [f"| {name} | {unit.hole} |" for name, unit in UNITS.items() if unit.hole]
