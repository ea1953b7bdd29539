"""Synthesise accelerators of several E and G, with the limits of 370M; write benchmarks/area/points.json.

    nice python benchmarks/area_points.py [--estimate]

With `--estimate` nothing is synthesised: it prints the points of the file with what is estimated for each.
`rtl_gen/footprint.py` estimates LUTs, block RAMs and multipliers without synthesis; these are the points that it is pinned to
(`tests/test_rtl_gen_footprint.py`). Five to ten minutes a point; every step is cached.
"""

from __future__ import annotations

import argparse
import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from tritape.hw.config import Config
from tritape.rtl_gen.area import accelerator_area, xilinx_area
from tritape.rtl_gen.estimate import PUBLISHED
from tritape.rtl_gen.footprint import footprint

PATH = Path(__file__).parent / "area" / "points.json"
# (engines, groups, tables per filler, batch, serial)
POINTS = [(1, 16, 1, 1, False), (1, 32, 1, 1, False), (4, 16, 1, 1, False)]
XILINX = [(1, 16, 1, 1, False)]


def main() -> None:
    """Synthesise and write, or print what is estimated."""
    parser = argparse.ArgumentParser(description="Area of accelerators with the limits of 370M.")
    parser.add_argument(
        "--estimate", action="store_true", help="print estimates beside the points of the file; no synthesis"
    )
    if parser.parse_args().estimate:
        estimates()
        return
    PATH.parent.mkdir(exist_ok=True)
    rows: list[dict[str, Any]] = []
    points = [("ecp5", point) for point in POINTS] + [("xcup", point) for point in XILINX]
    for family, (engines, groups, fillers, batch, serial) in points:
        config = Config.for_model(PUBLISHED["370m"], groups, fillers, engines, serial=serial, batch=batch)
        report = accelerator_area(config, route=False) if family == "ecp5" else xilinx_area(config, family)
        point = {"family": family, "kind": "synthesised", "engines": engines, "groups": groups}
        point |= {"tables_per_filler": fillers, "batch": batch, "serial": serial}
        rows.append(point | {name: value for name, value in asdict(report).items() if value is not None})
        PATH.write_text(json.dumps(rows, indent=1) + "\n")
        Console(stderr=True).print(rows[-1])


def estimates() -> None:
    """Print each point of the file with what `rtl_gen/footprint.py` says of it; of Xilinx LUT6s with all tables in block RAM."""
    table = Table("family", "E", "G", "LUTs", "estimated", "block RAMs", "estimated", "multipliers", "estimated")
    for point in json.loads(PATH.read_text()):
        engines, groups = point["engines"], point["groups"]
        config = Config.for_model(
            PUBLISHED["370m"], groups, point["tables_per_filler"], engines, serial=point["serial"], batch=point["batch"]
        )
        made = footprint(config, 4 if point["family"] == "ecp5" else 6)
        pairs = [(point["luts"], made.luts), (point["brams"], made.brams), (point["dsps"], made.dsps)]
        table.add_row(point["family"], str(engines), str(groups), *(f"{number:,}" for pair in pairs for number in pair))
    Console(width=110).print(table)


if __name__ == "__main__":
    main()
