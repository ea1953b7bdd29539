"""ApplyGains against `arith.apply_gain`."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from tritape.hw.norm.gains import ApplyGains
from tritape.model import arith
from tritape.sim.bench import SIMULATORS, check_streams


def cases(seed: int, count: int) -> tuple[list[dict[str, int]], list[dict[str, int]]]:
    rng = np.random.default_rng(seed)
    extremes = [-131071, -131070, -32768, -1, 0, 1, 32768, 131070, 131071]
    triples = [(x, g, -g) for x, g in itertools.product(extremes, (-32767, -16384, -1, 0, 1, 16384, 32767))]
    triples += [
        (int(rng.integers(-131071, 131072)), int(rng.integers(-32767, 32768)), int(rng.integers(-32767, 32768)))
        for _ in range(count)
    ]
    operands, elements = [], []
    for x, first, product in triples:
        flags = {name: int(rng.integers(2)) for name in ("last", "quantise", "keep")}
        operands.append({"value": x, "first_gain": first, "product_gain": product, **flags})
        v, u = (int(arith.apply_gain(np.int64(x), np.int64(gain))) for gain in (first, product))
        elements.append({"first": v, "negative": int(u < 0), "magnitude": abs(u), **flags})
    return operands, elements


@pytest.mark.parametrize("simulator", SIMULATORS)
def test_equals_the_model(simulator: str) -> None:
    operands, elements = cases(1, 500)
    check_streams(ApplyGains(), inputs={"operands": operands}, expected={"elements": elements}, simulator=simulator)


def test_latency_and_one_element_a_cycle() -> None:
    operands, elements = cases(2, 10)
    result = check_streams(
        ApplyGains(),
        inputs={"operands": operands},
        expected={"elements": elements},
        input_stall=0,
        output_stall=0,
    )
    assert result.latency["elements"] == ApplyGains.LATENCY
    assert result.cycles == result.transfers["operands"][0] + len(operands) + ApplyGains.LATENCY
