"""Measure every figure that README and docs state, with the project's own commands; write benchmarks/bars.json.

    python benchmarks/bars.py [--no-route]

Each row names the command that printed it. The numbers of `perf` and `area` are also kept beside it, for `tritape report`.
`--no-route` leaves place and route (some minutes) out where there are figures of it, and keeps those. Seconds count what
else the machine does: run it alone.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

HERE = Path(__file__).parent
ROOT = HERE.parent
TRITAPE = str(Path(sys.executable).parent / "tritape")
REFERENCE = "tests/data/mmfreelm-tiny"
DEFAULT = "model/data/small"
SHAPES = [(40, 65, 1, 97), (64, 256, 2, 256), (128, 512, 4, 512), (320, 800, 1, 1000), (1024, 2816, 1, 2048)]

Bar = tuple[str, str, Callable[[dict[str, Any]], Any], Callable[[Any], bool]]
"""Name, what it must be, value of a command's result, and whether a value is good."""


def run(*arguments: str, cache: str | None = None) -> dict[str, Any]:
    """The JSON of one tritape command, run in the project's folder, with the cache in the folder `cache`."""
    environment = os.environ | ({"TRITAPE_CACHE": cache} if cache else {})
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "out.json"
        command = [TRITAPE, *arguments, *(["-o", folder] if arguments[0] == "build" else []), "--json", str(out)]
        subprocess.run(command, cwd=ROOT, env=environment, check=True, stdout=subprocess.DEVNULL)
        return json.loads(out.read_text())


class Bars:
    """Rows of the table, one a bar. `route` False keeps the rows of `previous` that place and route made."""

    def __init__(self, previous: list[dict[str, Any]], route: bool) -> None:
        self.rows: list[dict[str, Any]] = []
        self._previous, self._route = previous, route

    def __call__(
        self, kind: str, arguments: list[str], wanted: list[Bar], cache: tuple[str, str] | None = None
    ) -> None:
        """Run a command and judge what it measured. `cache`: its folder, if not the usual one, and its name in the command."""
        command = (f"TRITAPE_CACHE={cache[1]} " if cache else "") + "tritape " + " ".join(arguments)
        kept = [row for row in self._previous if row["command"] == command]
        if kept and not self._route and (arguments[0] == "build" or "--route" in arguments):
            self.rows.extend(kept)
            return
        result = run(*arguments, cache=cache[0] if cache else None)
        if arguments[0] in ("perf", "area"):  # perf-1024.json, area-engine.json
            what = arguments[arguments.index("--hidden") + 1] if "--hidden" in arguments else arguments[1]
            (HERE / f"{arguments[0]}-{what}.json").write_text(json.dumps(result, indent=1) + "\n")
        for name, bar, measure, good in wanted:
            value = measure(result)
            self.rows.append(
                {"bar": name, "must_be": bar, "value": value, "met": good(value), "kind": kind, "command": command}
            )
            Console(stderr=True).print(f"{name}: {value} ({bar})")


def main() -> None:
    """Run all measurements, print the table, write the file; exit status 1 if a bar is missed."""
    parser = argparse.ArgumentParser(description="Measure what README and docs state; writes benchmarks/bars.json.")
    parser.add_argument("--no-route", action="store_true", help="keep the figures of place and route")
    given = parser.parse_args()
    path = HERE / "bars.json"
    bars = Bars(json.loads(path.read_text()) if path.exists() else [], route=not given.no_route)
    models(bars)
    shapes(bars)
    routed(bars)
    path.write_text(json.dumps(bars.rows, indent=1) + "\n")
    table = Table("", "must be", "value", "", "kind")
    for row in bars.rows:
        value = f"{row['value']:.4g}" if isinstance(row["value"], float) else str(row["value"])
        table.add_row(row["bar"], row["must_be"], value, "met" if row["met"] else "[red]missed[/red]", row["kind"])
    Console(width=130).print(table)
    sys.exit(0 if all(row["met"] for row in bars.rows) else 1)


def models(bars: Bars) -> None:
    """Reference and default model: exactness, perplexity, cycles and the speed of simulation."""
    expected = f"{REFERENCE}/expected.npz"
    bars("simulated", ["check", REFERENCE, "--against", expected, "--rtl", "--tokens", "16"], [
        ("hardware against integer model, reference, 64 tokens", "bit-exact", lambda r: r["rtl_bit_exact"], bool),
    ])  # fmt: skip
    bars("measured", ["check", REFERENCE, "--against", expected], [
        ("float model, largest error over largest logit", "<= 1e-5", lambda r: r["float_max_rel"], lambda v: v <= 1e-5),
        ("integer model, rms", "<= 3 %", lambda r: r["int_rel_rms"], lambda v: v <= 0.03),
        ("integer model, top-1", ">= 93 %", lambda r: r["int_top1"], lambda v: v >= 0.93),
    ])  # fmt: skip
    bars("measured", ["perplexity", DEFAULT, f"{DEFAULT}/heldout.txt", "--tokens", "20000"], [
        ("integer perplexity against float, held-out text", "within 0.5 %", lambda r: r["change"], lambda v: abs(v) <= 0.005),
    ])  # fmt: skip
    bars("simulated", ["generate", "Emma was", "--tokens", "160", "--temperature", "0.7", "--groups", "16"], [
        ("hardware against integer model, default model, 161 tokens", "bit-exact", lambda r: r["bit_exact"], bool),
        ("simulation speed, check included, tokens/s", ">= 40", lambda r: r["simulated_tokens_per_second"], lambda v: v >= 40),
        ("default model, cycles a token", "-", lambda r: r["cycles_per_token"], lambda v: True),
    ])  # fmt: skip
    bars("simulated", ["generate", "Emma was", "--tokens", "40", "--temperature", "0.7", "--groups", "26"], [
        ("hardware against integer model, G = 26, 41 tokens", "bit-exact", lambda r: r["bit_exact"], bool),
        ("default model, G = 26, cycles a token", "-", lambda r: r["cycles_per_token"], lambda v: True),
    ])  # fmt: skip


def shapes(bars: Bars) -> None:
    """Random models of several shapes: exactness, the estimate, and the roofline."""
    for hidden, intermediate, layers, vocab in SHAPES:
        arguments = ["perf", "--hidden", str(hidden), "--layers", str(layers), "--vocab", str(vocab)]
        arguments += ["--intermediate", str(intermediate), "--groups", "16"]
        wanted: list[Bar] = [
            (
                f"estimate against RTL, hidden {hidden}",
                "within 1 %",
                lambda r: r["estimate_error"],
                lambda v: abs(v) <= 0.01,
            ),
            (f"bit-exact, hidden {hidden}", "bit-exact", lambda r: r["bit_exact"], bool),
        ]
        if hidden == 1024:
            wanted.append(
                ("roofline fraction, hidden 1024", ">= 0.95", lambda r: r["roofline_fraction"], lambda v: v >= 0.95)
            )
        bars("simulated", arguments, wanted)


def routed(bars: Bars) -> None:
    """Area and clocks after place and route, and the time of a build."""
    bars("routed", ["area", "engine", "--groups", "16", "--route"], [
        ("engine, LUT4 equivalents a ternary MAC", "<= 10", lambda r: r["luts_per_mac"], lambda v: v <= 10),
        ("engine, Fmax, MHz", ">= 125", lambda r: r["fmax_mhz"], lambda v: v >= 125),
        ("engine, DSPs", "0", lambda r: r["dsps"], lambda v: v == 0),
    ])  # fmt: skip
    bars("routed", ["area", "accelerator", "--groups", "16", "--route"], [
        ("accelerator on ECP5-85F, LUT4 equivalents", "<= 83,640", lambda r: r["luts"], lambda v: v <= 83640),
        ("accelerator on ECP5-85F, block RAMs", "<= 208", lambda r: r["brams"], lambda v: v <= 208),
        ("accelerator on ECP5-85F, Fmax, MHz", ">= 80", lambda r: r["fmax_mhz"], lambda v: v >= 80),
    ])  # fmt: skip
    bars("routed", ["build", "ulx3s-85f"], [
        ("default model on a ULX3S-85F, MHz", "-", lambda r: r["clock_mhz"], lambda v: True),
        ("default model on a ULX3S-85F, tokens/s", ">= 5,000", lambda r: r["tokens_per_second"], lambda v: v >= 5000),
    ])  # fmt: skip
    with tempfile.TemporaryDirectory() as folder:
        bars("measured", ["build", "ulx3s-85f"], [
            ("the same build from an empty cache, seconds", "< 600", lambda r: r["seconds"], lambda v: v < 600),
        ], cache=(folder, "NEW_FOLDER"))  # fmt: skip
        bars("measured", ["build", "ulx3s-85f"], [
            ("and again, seconds", "< 5", lambda r: r["seconds"], lambda v: v < 5),
        ], cache=(folder, "THAT_FOLDER"))  # fmt: skip


if __name__ == "__main__":
    main()
