"""Synthesise slots and replicas for UltraScale+; write benchmarks/area/ultrascale.json, to which rtl_gen/ultrascale.py is fitted.

    nice python benchmarks/card_area.py [POINTS]

Each point is one run of Yosys (`synth_xilinx -family xcup`), two minutes of one core and more, cached. A slot is `Slot`, what one
of T tokens needs; a replica is `AXIAccelerator`, all of it, behind one port of 512 bits. Points with `fitted` set the constants;
the others show how far off they are (`pytest tests/test_rtl_gen_ultrascale.py`, docs/large-models.md).
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path
from typing import Any

from rich.console import Console

from tritape.hw.axi_accelerator import AXIAccelerator
from tritape.hw.batch.slot import Slot
from tritape.hw.config import Config
from tritape.rtl_gen.area import xilinx_cells
from tritape.rtl_gen.estimate import PUBLISHED

PATH = Path(__file__).parent / "area" / "ultrascale.json"
# (unit, shape, engines, groups, tables per filler, batch, fitted)
POINTS = [
    ("slot", "370m", 1, 8, 1, 2, True),
    ("slot", "370m", 1, 16, 1, 2, True),
    ("slot", "370m", 2, 8, 1, 2, False),
    ("replica", "370m", 1, 8, 1, 2, False),
    ("slot", "2.7b", 1, 8, 1, 2, False),
    ("slot", "370m", 1, 16, 4, 2, False),
    ("slot", "370m", 4, 16, 1, 8, False),
]
WORDS = 1 << 24
"""Of memory behind a replica."""


def main() -> None:
    """Synthesise so many of the points as the first argument says (default: all) and write, point by point."""
    rows: list[dict[str, Any]] = []
    for unit, shape, engines, groups, fillers, batch, fitted in POINTS[: int(sys.argv[1]) if sys.argv[1:] else None]:
        config = Config.for_model(PUBLISHED[shape], groups, fillers, engines, batch=batch).limited_to(PUBLISHED[shape])
        component = Slot(config) if unit == "slot" else AXIAccelerator(config, WORDS, ports=1, port_bits=512)
        started = time.monotonic()
        cells = xilinx_cells(component, unit)
        point = {"unit": unit, "shape": shape, "engines": engines, "groups": groups, "tables_per_filler": fillers}
        rows.append(point | {"batch": batch, "fitted": fitted} | cells)
        PATH.write_text(json.dumps(rows, indent=1) + "\n")
        Console(stderr=True).print(rows[-1], f"{time.monotonic() - started:.0f} s")


if __name__ == "__main__":
    main()
