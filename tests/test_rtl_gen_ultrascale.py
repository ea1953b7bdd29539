"""Area of slots and replicas on UltraScale+: the model against Yosys, where memories go, and what each place costs."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tritape.hw.config import Config
from tritape.rtl_gen.estimate import PUBLISHED
from tritape.rtl_gen.footprint import block_rams, memories, memory_blocks
from tritape.rtl_gen.parts import PARTS
from tritape.rtl_gen.replicas import room
from tritape.rtl_gen.ultrascale import (
    LIMITS,
    PORT,
    binding,
    distributed,
    most_slots,
    place,
    ports,
    shared_luts,
    slot_luts,
    used,
)

AREA = Path(__file__).parents[1] / "benchmarks" / "area"
POINTS: list[dict[str, Any]] = json.loads((AREA / "ultrascale.json").read_text())
FITTED, OTHERS = 0.03, 0.10
"""Largest error of the LUTs of logic at points that the model is fitted to, and at the others."""
REGION = room(PARTS["xcu250"], 4)


def configuration(point: dict[str, Any]) -> Config:
    shape = PUBLISHED[point["shape"]]
    return Config.for_model(
        shape, point["groups"], point["tables_per_filler"], point["engines"], batch=point["batch"]
    ).limited_to(shape)


def label(point: dict[str, Any]) -> str:
    return "-".join(
        str(point[name]) for name in ("unit", "shape", "engines", "groups", "tables_per_filler", "batch", "fitted")
    )


@pytest.mark.parametrize("point", POINTS, ids=label)
def test_luts_are_those_of_yosys(point: dict[str, Any]) -> None:
    config = configuration(point)
    luts = slot_luts(config)
    if point["unit"] == "replica":
        luts = config.batch * luts + shared_luts(config)
    assert luts == pytest.approx(point["logic"], rel=FITTED if point["fitted"] else OTHERS)


@pytest.mark.parametrize("point", [point for point in POINTS if point["unit"] == "slot"], ids=label)
def test_memories_and_multipliers_are_those_of_yosys(point: dict[str, Any]) -> None:
    """With the tables in LUT RAM, as Yosys puts them, and an embedding row in either; a multiplier of 18 x 18 bits may need fewer
    DSPs than the model says, never more."""
    config = configuration(point)
    of_slots = [entry for entry in memories(config) if entry[0] not in ("frame", "tokens", "logits", "table")]
    brams = sum(count // config.batch * memory_blocks(width, depth) for _, count, width, depth in of_slots)
    assert point["brams"] == pytest.approx(brams, abs=4 + brams // 20)
    assert point["memory"] >= distributed(11, 256)[0] * config.word_bytes
    most = 2 + 13 * config.engines
    assert most * 0.9 - 1 <= point["dsps"] <= most


def test_a_whole_accelerator() -> None:
    """All but the memory ports, at a point that nothing here is fitted to, of one slot; docs/large-models.md states the error."""
    points = json.loads((AREA / "points.json").read_text())
    point = next(point for point in points if point["family"] == "xcup")
    config = Config.for_model(PUBLISHED["370m"], point["groups"], point["tables_per_filler"], point["engines"])
    ram = sum(
        count * distributed(width, depth)[0]
        for name, count, width, depth in memories(config)
        if name == "table" or not memory_blocks(width, depth)
    )
    error = (slot_luts(config) + shared_luts(config) - PORT * ports(config) + ram) / point["luts"] - 1
    assert abs(error) <= OTHERS
    page = (AREA.parents[1] / "docs" / "large-models.md").read_text()
    assert f"{error:+.1%} of its LUTs" in page


def test_lut_ram() -> None:
    """RAM64M8 and RAM32M16 take eight LUTs; constants are logic."""
    assert distributed(11, 256) == (64, 11)
    assert distributed(14, 32) == (8, 0)
    assert distributed(15, 32) == (16, 0)
    assert distributed(7, 64) == (8, 0)
    assert distributed(7, 65) == (16, 7)
    assert distributed(16, 1024, rom=True) == (0, 16 * 16 + 16 * 5)


CONFIG = Config(groups=16, engines=4, batch=8).limited_to(PUBLISHED["370m"])


def test_plenty_of_everything_leaves_memories_where_they_are() -> None:
    """Every memory is placed once, and what is not in UltraRAM or LUT RAM is what `block_rams` counts."""
    placed = place(CONFIG, REGION)
    counted: dict[str, int] = {}
    for name, count, _ in placed.places:
        counted[name] = counted.get(name, 0) + count
    expected: dict[str, int] = {"read ahead": 1}
    for name, count, _, _ in memories(CONFIG):
        expected[name] = expected.get(name, 0) + count
    assert counted == expected
    assert {place for _, _, place in placed.places} <= {"LUT RAM", "block RAM", "UltraRAM"}
    assert placed.cells.brams <= block_rams(CONFIG) + 15
    assert placed.cells.dsps == 8 * (2 + 13 * 4)


def test_a_place_that_is_scarce_is_left() -> None:
    """Fewer block RAMs put memories elsewhere, never constants into UltraRAM; the scarcest resource is the one that binds."""
    free = place(CONFIG, REGION)
    tight = place(CONFIG, replace(REGION, brams=300))
    assert tight.cells.brams < free.cells.brams
    assert tight.cells.luts >= free.cells.luts
    assert not [entry for entry in tight.places if entry[2] == "UltraRAM" and entry[0] in ("sigma", "script")]
    without = place(CONFIG, replace(REGION, urams=1, brams=2000))
    assert without.cells.urams == 0
    assert (
        used(without.cells, REGION)
        > used(free.cells, REGION)
        == max(share / LIMITS[name] for name, share in free.cells.share(REGION).items())
    )
    assert binding(free.cells, replace(REGION, dsps=free.cells.dsps)) == "dsps"
    assert binding(free.cells, replace(REGION, brams=free.cells.brams)) == "brams"


def test_most_slots_is_never_too_few() -> None:
    for engines, groups in ((1, 64), (2, 32), (4, 16)):
        config = Config(groups=groups, engines=engines).limited_to(PUBLISHED["370m"])
        most = most_slots(config, REGION)
        assert most >= 2
        if most < 16:
            assert used(place(replace(config, batch=most + 1), REGION).cells, REGION) > 1
