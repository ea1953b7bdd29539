"""The U250 table: ternip's figures beside what `tritape choose` projects for the same card; write benchmarks/choose/u250-*.json.

    python benchmarks/cards.py

Each row of ours is one `tritape choose` command, kept with what it printed. Exit status 1 if a bar is missed. Ternip's figures
are measured, ours projected: cycles of the cycle model at an assumed 300 MHz, area by rtl_gen/ultrascale.py within its limits.
Joules are at the board power of ternip, so they say what the rate alone would give.
"""

from __future__ import annotations

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
    table = Table()
    for name in (
        "model",
        "GB/s",
        "design",
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
    for name, options in rows().items():
        result = run("choose", *options.split())
        (HERE / "choose" / f"{name}.json").write_text(json.dumps(result, indent=1) + "\n")
        model = result["model"]
        rate, streams = TERNIP[model]
        if model != last:
            table.add_section()
            table.add_row(
                model, "", f"ternip, {streams} lanes", f"{rate:,}", "", f"{rate / streams:.1f}", f"{POWER / rate:.4f}"
            )
        last = model
        chosen, met = result["chosen"], meets(result)
        missed |= not met and not name.endswith("-4")
        table.add_row(
            model, f"{result['bandwidth'] / 1e9:g}", design(chosen), f"{chosen['tokens_per_second']:,.0f}",
            f"{chosen['tokens_per_second'] / rate:.2f}", f"{chosen['stream_tokens_per_second']:.1f}",
            f"{POWER / chosen['tokens_per_second']:.4f}", f"{chosen['share']['luts']:.0%}", "met" if met else "missed",
            chosen["binding"],
        )  # fmt: skip
    Console(width=170).print(table)
    print(f"J a token: {POWER:g} W over tokens/s. Counted: ours embedding, layers, head, sampling; ternip layers only.")
    sys.exit(missed)


def meets(result: dict[str, Any]) -> bool:
    """Both bars of its model."""
    rate, stream = BARS[result["model"]]
    chosen = result["chosen"]
    return chosen["tokens_per_second"] >= rate and chosen["stream_tokens_per_second"] >= stream


def design(chosen: dict[str, Any]) -> str:
    """As `tritape choose` names it."""
    names = {"E": "engines", "G": "groups", "F": "tables_per_filler", "T": "batch"}
    return f"{chosen['replicas']} x " + " ".join(f"{letter}={chosen[name]}" for letter, name in names.items())


if __name__ == "__main__":
    main()
