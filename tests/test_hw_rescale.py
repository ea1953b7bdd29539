"""Rescale against `arith.rescale` and `arith.sat18`."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from wrappers import CountPulses

from tritape.hw.norm.rescale import Rescale
from tritape.hw.stream.skid import Skid
from tritape.model import arith
from tritape.sim.bench import SIMULATORS, check_streams

EXTREMES = [-131072, -131071, -65536, -1, 0, 1, 2, 65535, 131070, 131071]


def cases(seed: int, count: int) -> list[dict[str, int]]:
    rng = np.random.default_rng(seed)
    extremes = [
        {"raw": raw, "factor": factor, "shift": shift}
        for raw, factor in itertools.product(EXTREMES, EXTREMES)
        for shift in (0, 1, 15, 16, 17, 31, 32, 33, 34, 35, 47)
    ]
    mixed = [  # results near the ends of the range: the product has about 17 + shift bits
        {
            "raw": int(rng.integers(-131071, 131072)) >> int(rng.integers(0, 17)),
            "factor": int(rng.integers(-131071, 131072)) >> int(rng.integers(0, 17)),
            "shift": int(rng.integers(0, 48)),
        }
        for _ in range(count)
    ]
    near = [  # one factor is a power of two: exact ties and the saturation's edges
        {"raw": raw, "factor": sign << power, "shift": max(power + offset, 0)}
        for raw in (-131071, -131070, -65536, -65535, -3, 3, 65535, 65536, 131070, 131071)
        for power in range(0, 17)
        for offset in (-1, 0, 1)
        for sign in (1, -1)
    ]
    return extremes + mixed + near


def golden(operands: list[dict[str, int]]) -> tuple[list[int], int]:
    exact = [arith.rescale(np.int64(o["raw"]), o["factor"], o["shift"]) for o in operands]
    return arith.sat18(np.array(exact)).tolist(), arith.count_saturated(np.array(exact))


@pytest.mark.parametrize("simulator", SIMULATORS)
def test_equals_the_model_and_counts_saturations(simulator: str) -> None:
    operands = cases(1, 2000 if simulator == "verilator" else 400)
    values, saturated = golden(operands)
    assert 100 < saturated < len(operands) // 2
    check_streams(
        CountPulses(Rescale(), "saturated"),
        inputs={"operands": operands},
        expected={"values": values},
        finals={"count": saturated},
        simulator=simulator,
    )


def test_latency_and_one_element_a_cycle() -> None:
    operands = cases(2, 50)
    result = check_streams(
        Rescale(),
        inputs={"operands": operands},
        expected={"values": golden(operands)[0]},
        input_stall=0,
        output_stall=0,
    )
    assert result.latency["values"] == Rescale.LATENCY
    assert result.cycles == result.transfers["operands"][0] + len(operands) + Rescale.LATENCY


@pytest.mark.parametrize("simulator", SIMULATORS)
def test_skid_passes_everything_on(simulator: str) -> None:
    values = list(range(200))
    check_streams(Skid(8), inputs={"source": values}, expected={"sink": values}, simulator=simulator)


def test_skid_adds_no_cycle() -> None:
    values = list(range(50))
    result = check_streams(Skid(8), inputs={"source": values}, expected={"sink": values}, input_stall=0, output_stall=0)
    assert result.latency["sink"] == Skid.LATENCY
    assert result.transfers["sink"] == result.transfers["source"]
