"""The U250 table: ternip's figures beside what `tritape choose` projects for the same card; write benchmarks/choose/u250-*.json.

    python benchmarks/cards.py [NAME ...]

Without names all rows are chosen (`--list` prints their commands); with names only those, and the files of the others stay.
Each row of ours is one `tritape choose` command, kept with what it printed. Exit status 1 if a bar is missed. Ternip's figures
are measured, ours projected: cycles of the cycle model at an assumed 300 MHz, area by rtl_gen/ultrascale.py within its limits.
Joules are at the board power of ternip, so they say what the rate alone would give.
"""

from __future__ import annotations

import argparse
import json
import sys
from typing import Any

from bars import HERE, run
from rich.console import Console
from rich.table import Table

POWER = 53.0
"""Watts of ternip's board, measured by its authors, taken for both."""
TERNIP = {"370m": (3712, 48), "1.3b": (970, 41), "2.7b": (411, 29)}
"""Tokens a second of all streams, and streams; embedding and head run on the processor and are not counted."""
BARS = {"370m": (10_000, 250), "1.3b": (2_600, 70), "2.7b": (1_250, 35)}
"""Least tokens a second, of all streams and of one, with the whole token loop counted."""
ONE_A_REGION = (("370m", "peak"), ("370m", "sustained"), ("1.3b", "peak"))
"""Models and memories where one replica a region can be fast enough for a stream; its other rows ask for no rate a stream."""
MEMORIES = {"peak": 76.8e9, "sustained": 72e9}
"""Bytes a second of four channels of DDR4-2400: 19.2 GB/s each, and 18 GB/s as an assumption of what long reads sustain."""


def rows() -> dict[str, str]:
    """Name -> options of `tritape choose`: with one replica a region, and with any number."""
    found = {}
    for model, (_, stream) in BARS.items():
        for memory, bandwidth in MEMORIES.items():
            common = f"{model} --part xcu250 --clock 300e6 --bandwidth {bandwidth:.12g}"
            least = f" --stream-rate {stream}"
            found[f"u250-{model}-{memory}-4"] = (
                f"{common} --replicas 4{least if (model, memory) in ONE_A_REGION else ''}"
            )
            found[f"u250-{model}-{memory}"] = common + least
    return found


def main() -> None:
    """Choose, print the table, write the files."""
    known = rows()
    parser = argparse.ArgumentParser(
        description="The U250 table of docs/large-models.md, projected; writes benchmarks/choose."
    )
    parser.add_argument("names", nargs="*", metavar="NAME", help="rows to choose (default: all)")
    parser.add_argument("--list", action="store_true", help="print the command of each row, and choose nothing")
    given = parser.parse_args()
    if unknown := [name for name in given.names if name not in known]:
        parser.error(f"row must be one of {', '.join(known)}, not {unknown[0]!r}; --list shows them")
    wanted = {name: options for name, options in known.items() if not given.names or name in given.names}
    if given.list:
        print("\n".join(f"{name}: tritape choose {options}" for name, options in wanted.items()))
        return
    table = Table()
    for name in (
        "model",
        "GB/s",
        "design",
        "streams",
        "tokens/s",
        "over ternip",
        "a stream",
        "J a token",
        "LUT",
        "bar",
        "limited by",
    ):
        table.add_column(name, justify="left" if name in ("model", "design", "limited by") else "right")
    missed = False
    last = ""
    for name, options in wanted.items():
        result = run("choose", *options.split())
        (HERE / "choose" / f"{name}.json").write_text(json.dumps(result, indent=1) + "\n")
        model = result["model"]
        rate, streams = TERNIP[model]
        if model != last:
            table.add_section()
            table.add_row(
                model, "", "ternip", str(streams), f"{rate:,}", "", f"{rate / streams:.1f}", f"{POWER / rate:.4f}"
            )
        last = model
        missed |= not meets(result) and not name.endswith("-4")
        table.add_row(model, *cells(result))
    Console(width=170).print(table)
    print(f"J a token: {POWER:g} W over tokens/s. Counted: ours embedding, layers, head, sampling; ternip layers only.")
    sys.exit(missed)


def cells(result: dict[str, Any]) -> list[str]:
    """A row of the table, without the model."""
    chosen = result["chosen"]
    rate, share = chosen["tokens_per_second"], chosen["share"]["luts"]
    return [
        f"{result['bandwidth'] / 1e9:g}", design(chosen), str(chosen["replicas"] * chosen["batch"]), f"{rate:,.0f}",
        f"{rate / TERNIP[result['model']][0]:.2f}", f"{chosen['stream_tokens_per_second']:.1f}", f"{POWER / rate:.4f}",
        f"{share:.0%}", "met" if meets(result) else "missed", chosen["binding"],
    ]  # fmt: skip


def meets(result: dict[str, Any]) -> bool:
    """Both bars of its model."""
    rate, stream = BARS[result["model"]]
    chosen = result["chosen"]
    return chosen["tokens_per_second"] >= rate and chosen["stream_tokens_per_second"] >= stream


def design(chosen: dict[str, Any]) -> str:
    """As `tritape choose` names it."""
    fillers = f" F={chosen['tables_per_filler']}" if chosen["tables_per_filler"] > 1 else ""
    return f"{chosen['replicas']} x E={chosen['engines']} G={chosen['groups']}{fillers} T={chosen['batch']}"


if __name__ == "__main__":
    main()
