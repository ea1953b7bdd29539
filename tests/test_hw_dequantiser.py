"""Dequantiser against `arith.rescale` and `arith.sat18`."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from wrappers import CountPulses

from tritape.hw.commands import Destination, Pattern
from tritape.hw.norm.dequantiser import Dequantiser
from tritape.model import arith
from tritape.sim.bench import SIMULATORS, check_streams

SCALE_ALL, PASS_ALL, SCALE_EVEN = Pattern
MLGRU, MIXER, RESIDUAL, HEAD = Destination
SCALES = [(65536, 16), (131071, 0), (100000, 20), (0, 0), (70000, 33), (131071, 47), (90000, 15)]


def run(program: list[tuple[int, Pattern, int, Destination]], seed: int) -> tuple[dict[str, Any], int]:
    """Streams for commands (rows, pattern, take, destination), and how many values saturate."""
    rng = np.random.default_rng(seed)
    commands, scales, rows, values, saturated = [], [], [], [], 0
    scale, shift = 0, 0
    for count, pattern, take, destination in program:
        commands.append({"rows": count, "pattern": pattern, "take": take, "destination": destination, "last": 0})
        if take:
            scale, shift = SCALES[len(scales) % len(SCALES)]
            scales.append({"mantissa": scale, "shift": shift})
        raw = rng.integers(-131071, 131072, count) >> rng.integers(0, 12, count)
        raw[rng.integers(count)] = rng.choice([131071, -131071])
        exact = arith.rescale(raw, scale, shift)
        if pattern != SCALE_ALL:
            exact = np.where(np.arange(count) % 2 if pattern == SCALE_EVEN else True, raw, exact)
        saturated += arith.count_saturated(exact)
        rows += raw.tolist()
        values += [{"value": int(y), "destination": destination} for y in arith.sat18(exact)]
    return {
        "inputs": {"commands": commands, "scales": scales, "rows": rows},
        "expected": {"values": values},
    }, saturated


PROGRAM = [
    *[(20, SCALE_ALL, 1, MLGRU), (7, SCALE_ALL, 0, MLGRU), (13, SCALE_EVEN, 1, MIXER), (6, SCALE_EVEN, 0, MIXER)],
    *[
        (9, PASS_ALL, 1, MLGRU),
        (1, SCALE_ALL, 0, HEAD),
        (1, PASS_ALL, 0, RESIDUAL),
        (1, SCALE_EVEN, 1, MIXER),
        (2, SCALE_EVEN, 1, MLGRU),
    ],
    *[
        (30, SCALE_ALL, 1, RESIDUAL),
        (30, SCALE_ALL, 1, HEAD),
        (1, SCALE_ALL, 1, HEAD),
        (1, SCALE_ALL, 0, HEAD),
        (5, SCALE_ALL, 0, MLGRU),
    ],
]


@pytest.mark.parametrize("simulator", SIMULATORS)
@pytest.mark.parametrize("seed", [1, 2])
def test_equals_the_model_and_counts_saturations(seed: int, simulator: str) -> None:
    streams, saturated = run(PROGRAM, seed)
    assert saturated > 10
    unit = CountPulses(Dequantiser(), "saturated")
    check_streams(unit, **streams, finals={"count": saturated}, simulator=simulator)


def test_latency_and_rate() -> None:
    streams, _ = run([(20, SCALE_ALL, 1, MLGRU), (20, SCALE_EVEN, 1, MLGRU), (20, PASS_ALL, 0, MIXER)], 3)
    result = check_streams(Dequantiser(), **streams, input_stall=0, output_stall=0)
    rows, values = result.transfers["rows"], result.transfers["values"]
    assert [value - row for row, value in zip(rows, values)] == [Dequantiser.LATENCY] * 60
    for start in (0, 20, 40):
        assert rows[start + 19] - rows[start] == 19
    assert rows[20] - rows[19] == 3  # two idle cycles
    assert rows[40] - rows[39] == Dequantiser.LATENCY + 2  # another destination
