"""Measure models on external memories, each row one `tritape perf` or `tritape estimate` command; write
benchmarks/memory_bars.json.

    python benchmarks/memory_bars.py [NAME ...]

Without names all rows are run (`--list` prints them); with names the others keep their last figures. What a row printed is also
kept in benchmarks/perf-NAME.json or estimate-NAME.json, for `tritape report`; its tokens a second are projected at a clock that
need not be routed.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

from bars import HERE, run
from rich.console import Console
from rich.table import Table

KV260 = "--memory axi --ports 4 --port-bits 128 --latency 80 --jitter 31 --clock 250e6 --bandwidth 16e9"
SHAPE = "--hidden 512 --layers 2 --vocab 1024 --intermediate 1536 --groups 16 --batch"
# name: (options of `tritape perf`, least roofline fraction)
ROWS: dict[str, tuple[str, float | None]] = {
    "ideal-1024": ("--hidden 1024 --layers 4 --vocab 32000 --engines 4 --groups 16", 0.92),
    "kv260-370m": (f"--shape 370m {KV260} --engines 4 --groups 16", 0.94),
    "kv260-370m-wider": (f"--shape 370m {KV260} --engines 5 --groups 15", None),
    "kv260-1.3b-2-layers": (f"--shape 1.3b --layers 2 {KV260} --engines 4 --groups 16", 0.96),
    "sdr-512": ("--hidden 512 --layers 2 --vocab 4096 --memory litedram-sdr --groups 4", 0.93),
    "ddr3-370m": ("--shape 370m --memory litedram-ddr3 --groups 16", 0.85),
    "qspi-128": ("--hidden 128 --layers 4 --vocab 512 --intermediate 512 --memory qspi --groups 8", None),
    "hbm-sixteenth": (
        "--shape 2.7b --layers 1 --vocab 4096 --memory axi --ports 4 --port-bits 256 --latency 80 --jitter 31"
        " --clock 300e6 --bandwidth 28.75e9 --engines 4 --groups 32",
        None,
    ),
    "hbm-eighth": (
        "--shape 2.7b --layers 1 --vocab 4096 --memory axi --ports 8 --port-bits 256 --latency 80 --jitter 31"
        " --clock 300e6 --bandwidth 57.5e9 --engines 4 --groups 52",
        None,
    ),
    "batch-1": (f"{SHAPE} 1", None),
    "batch-4": (f"{SHAPE} 4", None),
    "axi-batch-8": (
        "--hidden 1024 --layers 1 --vocab 256 --intermediate 256 --memory axi --ports 4 --port-bits 128 --latency 80 --jitter 31"
        " --clock 300e6 --bandwidth 4.6e9 --engines 1 --groups 16 --batch 8",
        None,
    ),
    "u250-batch-8": (
        "--hidden 1024 --layers 1 --vocab 256 --intermediate 256 --memory axi --ports 4 --port-bits 128 --latency 80 --jitter 31"
        " --clock 300e6 --bandwidth 18e9 --engines 1 --groups 64 --batch 8",
        None,
    ),
}
"""Rows with no least fraction have no bar for it: they validate the cycle model. `kv260-370m` is what `tritape choose` takes for
that memory; a word wider than a line of it gains nothing, as `kv260-370m-wider` shows. Those of 2.7B have an engine wider than
their share of the memory; hidden 128 fills 128 of the 160 places of its tiles, so a fifth of what the flash
delivers is padding."""
PROJECTED: dict[str, tuple[str, float, float]] = {
    "hbm-2.7b": (
        "2.7b --engines 16 --groups 128 --clock 300e6 --bandwidth 460e9 --read-ahead 1048576 --latency 120",
        0.90,
        790,
    ),
}
"""Rows of the cycle model alone. name: (options of `tritape estimate`, least roofline fraction, least tokens a second). HBM is 32
ports of 512 bits, each with a FIFO of 512 lines, that deliver 460 GB/s together."""
ESTIMATE_ERROR = 0.01
BATCH_GAIN = 3.7
"""Least rate of a batch of four over that of one token a pass."""


def main() -> None:
    """Run the rows, print the table, write the file; exit status 1 if a bar is missed."""
    wanted = sys.argv[1:]
    if wanted == ["--list"]:
        for name, (options, _) in ROWS.items():
            print(f"{name}: tritape perf {options}")
        for name, (options, *_) in PROJECTED.items():
            print(f"{name}: tritape estimate {options}")
        return
    if unknown := set(wanted) - set(ROWS) - set(PROJECTED):
        sys.exit(
            f"row must be one of {', '.join([*ROWS, *PROJECTED])}, not {', '.join(sorted(unknown))!r}; --list shows them"
        )
    path = HERE / "memory_bars.json"
    kept: dict[str, list[dict[str, Any]]] = {}
    for row in json.loads(path.read_text()) if path.exists() else []:
        kept.setdefault(row["command"], []).append(row)
    rows: list[dict[str, Any]] = []
    for name, (options, least) in ROWS.items():
        command = f"tritape perf {options}"
        if wanted and name not in wanted:
            rows += kept.get(command, [])
            continue
        result = run("perf", *options.split())
        Path(HERE / f"perf-{name}.json").write_text(json.dumps(result, indent=1) + "\n")
        fraction, error = result["roofline_fraction"], result["estimate_error"]
        measured = [
            (f"{name}: roofline fraction", "-" if least is None else f">= {least}", fraction, fraction >= (least or 0)),
            (f"{name}: cycle model against RTL", "within 1 %", error, abs(error) <= ESTIMATE_ERROR),
            (f"{name}: bit-exact", "bit-exact", result["bit_exact"], result["bit_exact"]),
        ]
        if name == "batch-4":
            one = json.loads((HERE / "perf-batch-1.json").read_text())["tokens_per_second"]
            for what, key in (("independent", "tokens_per_second"), ("prompt", "prompt_tokens_per_second")):
                gain = result[key] / one
                measured.append((f"{name} over batch-1, {what}: rate", f">= {BATCH_GAIN}", gain, gain >= BATCH_GAIN))
        if result["batch"] > 1:
            error = result["prompt_estimate_error"]
            measured.append((f"{name}: cycle model, prompt", "within 1 %", error, abs(error) <= ESTIMATE_ERROR))
        for bar, must, value, met in measured:
            rows.append(
                {"bar": bar, "must_be": must, "value": value, "met": met, "kind": "simulated", "command": command}
            )
            Console(stderr=True).print(f"{bar}: {value} ({must})")
    for name, (options, least, rate) in PROJECTED.items():
        command = f"tritape estimate {options}"
        if wanted and name not in wanted:
            rows += kept.get(command, [])
            continue
        result = run("estimate", *options.split())
        Path(HERE / f"estimate-{name}.json").write_text(json.dumps(result, indent=1) + "\n")
        for what, key, must in (
            ("roofline fraction", "roofline_fraction", least),
            ("tokens/s", "tokens_per_second", rate),
        ):
            bar, met = f"{name}: {what}", result[key] >= must
            rows.append(
                {
                    "bar": bar,
                    "must_be": f">= {must}",
                    "value": result[key],
                    "met": met,
                    "kind": "projected",
                    "command": command,
                }
            )
            Console(stderr=True).print(f"{bar}: {result[key]} (>= {must})")
    path.write_text(json.dumps(rows, indent=1) + "\n")
    table = Table("", "must be", "value", "")
    for row in rows:
        value = f"{row['value']:.4g}" if isinstance(row["value"], float) else str(row["value"])
        table.add_row(row["bar"], row["must_be"], value, "met" if row["met"] else "[red]missed[/red]")
    Console(width=130).print(table)
    sys.exit(0 if all(row["met"] for row in rows) else 1)


if __name__ == "__main__":
    main()
