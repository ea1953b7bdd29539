"""Area without synthesis: the memories are those of the netlist, the numbers those of synthesis at the measured points."""

from __future__ import annotations

import json
import re
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from amaranth.back import rtlil

from tritape.hw.accelerator import Accelerator
from tritape.hw.config import Config
from tritape.rtl_gen.estimate import PUBLISHED
from tritape.rtl_gen.footprint import block_rams, footprint, luts, memories

POINTS: list[dict[str, Any]] = json.loads(
    (Path(__file__).parents[1] / "benchmarks" / "area" / "points.json").read_text()
)
LUT_ERROR = 0.10
LUTS_OF_A_TABLE = 64
"""LUT6s of 256 x 11 bits of distributed RAM."""
SMALL = {"max_hidden": 120, "max_intermediate": 250, "max_layers": 3, "max_vocab": 300, "max_rows": 200}
QUEUE_BITS = 1024
"""Memories up to this size are queues, which `memories` leaves out."""


@pytest.mark.slow
@pytest.mark.parametrize(
    "config",
    [
        Config(groups=8, engines=2, tables_per_filler=2, **SMALL),
        Config(groups=6, engines=2, batch=2, **SMALL),
        Config(groups=5, serial=True, **SMALL),
        Config(groups=10, engines=2, code="sparse4", **SMALL),
    ],
    ids=["lanes", "batch", "serial", "sparse4"],
)
def test_memories_are_those_of_the_netlist(config: Config) -> None:
    netlist = rtlil.convert(Accelerator(config), name="top", emit_src=False)
    shapes = re.findall(r"^\s*memory width (\d+) size (\d+) ", netlist, re.MULTILINE)
    found = Counter((int(width), int(depth)) for width, depth in shapes if int(width) * int(depth) > QUEUE_BITS)
    counted: Counter[tuple[int, int]] = Counter()
    for _, count, width, depth in memories(config):
        if width * depth > QUEUE_BITS:
            counted[width, depth] += count
    assert counted == found


def label(point: dict[str, Any]) -> str:
    names = ("family", "engines", "groups", "tables_per_filler", "batch", "serial")
    return "-".join(str(point[name]) for name in names)


@pytest.mark.parametrize("point", POINTS, ids=label)
def test_synthesised_points(point: dict[str, Any]) -> None:
    config = Config.for_model(
        PUBLISHED["370m"], point["groups"], point["tables_per_filler"], point["engines"], serial=point["serial"],
        batch=point["batch"],
    )  # fmt: skip
    xilinx = point["family"] != "ecp5"
    made = footprint(config, 6 if xilinx else 4)
    distributed = config.batch * config.word_bytes if xilinx else 0  # tables that Yosys leaves to distributed RAM there
    assert made.luts + LUTS_OF_A_TABLE * distributed == pytest.approx(point["luts"], rel=LUT_ERROR)
    assert made.brams - distributed == pytest.approx(point["brams"], abs=2)
    assert made.dsps == point["dsps"]


def test_more_of_anything_costs_more() -> None:
    base = Config(groups=16, engines=2)
    for more in (Config(groups=32, engines=2), Config(groups=16, engines=4), Config(groups=16, engines=2, batch=2)):
        assert luts(more) > luts(base)
        assert block_rams(more) > block_rams(base)
    assert luts(Config(groups=16, tables_per_filler=4)) < luts(Config(groups=16))
    assert block_rams(Config(groups=16, max_hidden=256, max_layers=4)) < block_rams(Config(groups=16))
