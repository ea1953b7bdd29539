"""Synthesises accelerators of several sizes for an ECP5-85F and fits `tritape.rtl_gen.fabric`'s coefficients to their cells.

    python benchmarks/area_points.py            # hours on one core when nothing is cached; writes benchmarks/area_points.json
    python benchmarks/area_points.py --fit      # only fits and prints the coefficients

Every point is Yosys and nextpnr's packing (`tritape.rtl_gen.area.accelerator_area`, no routing), cached by content. The file is
written after every point; points that it holds are not made again.
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path
from typing import Any

from tritape.hw.config import Config
from tritape.model.errors import TritapeError
from tritape.model.files import replacing
from tritape.rtl_gen.area import accelerator_area
from tritape.rtl_gen.estimate import PUBLISHED
from tritape.rtl_gen.fabric import fit_luts

FILE = Path(__file__).parent / "area_points.json"
POINTS: tuple[tuple[str, int, int, int], ...] = (
    ("370m", 1, 16, 1), ("370m", 1, 32, 2), ("370m", 2, 16, 1), ("370m", 4, 16, 1), ("370m", 1, 8, 1), ("370m", 1, 16, 4),
    ("370m", 2, 32, 2), ("2.7b", 4, 16, 1),
)  # fmt: skip
"""Shape whose limits it has, E, G, tables a filler."""


def main(arguments: list[str]) -> int:
    """Make what is missing, then fit; returns the exit status."""
    points: list[dict[str, Any]] = json.loads(FILE.read_text()) if FILE.exists() else []
    made = {(p["shape"], p["engines"], p["groups"], p["tables_per_filler"]) for p in points}
    for point in () if "--fit" in arguments else POINTS:
        if point in made:
            continue
        shape, engines, groups, tables = point
        config, started = Config.for_model(PUBLISHED[shape], groups, tables, engines), time.monotonic()
        try:
            area = accelerator_area(config, route=False)
        except TritapeError as error:
            print(f"{point}: {error}", flush=True)
            continue
        seconds = round(time.monotonic() - started, 1)
        numbers = {name: getattr(area, name) for name in ("luts", "ffs", "brams", "dsps")}
        named = {"shape": shape, "engines": engines, "groups": groups, "tables_per_filler": tables}
        points.append({**named, **numbers, "seconds": seconds})
        print(points[-1], flush=True)
        with replacing(FILE) as stream:
            stream.write((json.dumps(points, indent=1) + "\n").encode())
    print(json.dumps(fit_luts(points), indent=2))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
