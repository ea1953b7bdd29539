"""Residual against `arith.sat18`."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from wrappers import CountPulses

from tritape.base.errors import TritapeError
from tritape.hw.commands import ResidualMode
from tritape.hw.mixer.residual import Residual
from tritape.model import arith
from tritape.sim.bench import SIMULATORS, check_streams

READ, STORE, ACCUMULATE = ResidualMode


def run(sizes: tuple[int, int], program: list[tuple[int, int, int]], seed: int) -> tuple[dict[str, Any], int]:
    """Streams for commands (mode, region, length), and how many elements saturate."""
    rng = np.random.default_rng(seed)
    regions = [np.zeros(size, dtype=np.int64) for size in sizes]
    commands, elements, vector, saturated = [], [], [], 0
    for mode, region, length in program:
        commands.append({"mode": mode, "region": region, "length": length})
        x = regions[region][:length]
        if mode != READ:
            y = rng.integers(-131071, 131072, length) >> rng.integers(0, 4)
            y[rng.integers(length)] = rng.choice([131071, -131071])
            exact = y + (x if mode == ACCUMULATE else 0)
            saturated += arith.count_saturated(exact)
            x[:] = arith.sat18(exact)
            elements += y.tolist()
        vector += x.tolist()
    return {
        "inputs": {"commands": commands, "elements": elements},
        "expected": {"vector": vector},
    }, saturated


PROGRAM = [
    *[(STORE, 0, 40), (READ, 0, 40), (STORE, 1, 65), (READ, 1, 65), (READ, 0, 40)],
    *[(ACCUMULATE, 0, 40), (READ, 0, 40), (ACCUMULATE, 0, 40), (ACCUMULATE, 0, 40), (ACCUMULATE, 0, 40)],
    *[(READ, 1, 65), (STORE, 1, 1), (READ, 1, 1), (ACCUMULATE, 1, 1), (ACCUMULATE, 1, 1), (READ, 1, 65)],
    *[(ACCUMULATE, 0, 2), (ACCUMULATE, 0, 3), (ACCUMULATE, 0, 4), (ACCUMULATE, 0, 5), (READ, 0, 40)],
]


@pytest.mark.parametrize("simulator", SIMULATORS)
@pytest.mark.parametrize("seed", [1, 2])
def test_equals_the_model_and_counts_saturations(seed: int, simulator: str) -> None:
    streams, saturated = run((40, 65), PROGRAM, seed)
    assert saturated > 10
    assert {-131071, 131071} <= set(streams["expected"]["vector"])
    unit = CountPulses(Residual(40, 65), "saturated")
    check_streams(unit, **streams, finals={"count": saturated}, simulator=simulator)


def test_edges_of_the_saturation() -> None:
    """Sums of 131070 to 131073 in both signs."""
    x = [131070, 131071, 131071, 131071, -131070, -131071, -131071, -131071, 131071, -131071]
    y = [0, 0, 1, 2, 0, 0, -1, -2, 131071, -131071]
    total = np.array(x) + np.array(y)
    command = {"region": 0, "length": len(x)}
    check_streams(
        CountPulses(Residual(16, 1), "saturated"),
        inputs={"commands": [{"mode": STORE, **command}, {"mode": ACCUMULATE, **command}], "elements": x + y},
        expected={"vector": x + arith.sat18(total).tolist()},
        finals={"count": arith.count_saturated(total)},
    )


def test_latency_and_rate() -> None:
    program = [(STORE, 0, 20), (ACCUMULATE, 0, 20), (READ, 0, 20), (READ, 0, 20)]
    streams, _ = run((20, 20), program, 3)
    result = check_streams(Residual(20, 20), **streams, input_stall=0, output_stall=0)
    commands, elements, vector = (result.transfers[name] for name in ("commands", "elements", "vector"))
    assert vector[0] == elements[0] + Residual.LATENCY
    assert vector[40] == commands[2] + Residual.LATENCY + 1
    for start in (0, 20, 40, 60):
        assert vector[start + 19] - vector[start] == 19
    assert [vector[start] - vector[start - 1] for start in (20, 40, 60)] == [Residual.LATENCY + 1] * 3


def test_rejects_sizes_that_cannot_be() -> None:
    with pytest.raises(TritapeError, match=r"^max_hidden must be 1\.\.16384, not 0$"):
        Residual(0, 64)
    with pytest.raises(TritapeError, match=r"^max_intermediate must be 1\.\.16384, not 16385$"):
        Residual(64, 16385)
