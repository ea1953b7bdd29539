"""Scalar against `arith.reciprocal` and `arith.scale`."""

from __future__ import annotations

import numpy as np
import pytest

from tritape.hw.norm.scalar import Scalar
from tritape.model import arith
from tritape.sim.bench import SIMULATORS, check_streams

Case = dict[str, int]


def random_cases(seed: int, count: int) -> list[Case]:
    rng = np.random.default_rng(seed)
    return [
        {
            "maximum": int(rng.integers(0, 1 << 17)) >> int(rng.integers(0, 17)),
            "square_sum": int(rng.integers(0, 1 << 48)) >> int(rng.integers(0, 48)),
            "eps": int(rng.integers(0, 1 << 48)) >> int(rng.integers(0, 49)),
            "mantissa": int(rng.integers(0, 1 << 16)),
            "exponent": int(rng.integers(-40, 30)),
        }
        for _ in range(count)
    ]


def extreme_cases() -> list[Case]:
    big = (1 << 48) - 1
    cases = []
    for maximum in (0, 1, 2, 3, 65535, 65536, 131071):
        for square_sum, eps in ((0, 0), (0, 1), (1, 0), (1, 1), (2, 1), (4, 0), (big, 0), (0, big), (big, big)):
            for mantissa, exponent in ((0, 0), (65535, 0), (32768, -128), (65535, 127), (40000, -25), (40000, 17)):
                cases.append(
                    {
                        "maximum": maximum,
                        "square_sum": square_sum,
                        "eps": eps,
                        "mantissa": mantissa,
                        "exponent": exponent,
                    }
                )
    return cases


def golden(cases: list[Case]) -> tuple[list[Case], list[Case]]:
    reciprocals, scales = [], []
    for case in cases:
        r, e = arith.reciprocal(case["maximum"])
        reciprocals.append({"r": r, "e": e})
        scale, shift = arith.scale(**case)
        scales.append({"mantissa": scale, "shift": shift})
    return reciprocals, scales


@pytest.mark.parametrize("simulator", SIMULATORS)
def test_equals_the_model(simulator: str) -> None:
    cases = extreme_cases() + random_cases(1, 800)
    cases += [{**cases[0], "maximum": (1 << bits) + low} for bits in range(17) for low in (0, (1 << bits) - 1)]
    if simulator == "icarus":
        cases = cases[::9]
    reciprocals, scales = golden(cases)
    assert len({scale["shift"] for scale in scales}) > 30
    check_streams(
        Scalar(),
        inputs={"operands": cases},
        expected={"reciprocal": reciprocals, "scale": scales},
        simulator=simulator,
    )


def test_latency() -> None:
    cases = [
        {"maximum": (1 << length) - 1, "square_sum": 0, "eps": 0, "mantissa": 65535, "exponent": 0}
        for length in range(18)
    ]
    reciprocals, scales = golden(cases)
    result = check_streams(
        Scalar(),
        inputs={"operands": cases},
        expected={"reciprocal": reciprocals, "scale": scales},
        input_stall=0,
        output_stall=0,
    )
    transfers = zip(*(result.transfers[name] for name in ("operands", "reciprocal", "scale")))
    for length, (start, reciprocal, scale) in enumerate(transfers):
        n = 17 - length
        normalise = n // 4 + n % 4
        assert reciprocal - start == (Scalar.RECIPROCAL_LATENCY + normalise if length else Scalar.ZERO_LATENCY)
        assert scale - reciprocal == (Scalar.SCALE_LATENCY if length else 1)  # A' = 0 takes longest
