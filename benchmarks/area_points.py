"""Synthesise accelerators of several E and G, with the limits of 370M; write benchmarks/area/points.json.

    nice python benchmarks/area_points.py

`rtl_gen/footprint.py` estimates LUTs, block RAMs and multipliers without synthesis; these are the points that it is pinned to
(`tests/test_rtl_gen_footprint.py`). Five to ten minutes a point; every step is cached.
"""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

from rich.console import Console

from tritape.hw.config import Config
from tritape.rtl_gen.area import accelerator_area, xilinx_area
from tritape.rtl_gen.estimate import PUBLISHED

PATH = Path(__file__).parent / "area" / "points.json"
# (engines, groups, tables per filler, batch, serial)
POINTS = [(1, 16, 1, 1, False), (1, 32, 1, 1, False), (4, 16, 1, 1, False)]
XILINX = [(1, 16, 1, 1, False)]


def main() -> None:
    """Synthesise and write."""
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


if __name__ == "__main__":
    main()
