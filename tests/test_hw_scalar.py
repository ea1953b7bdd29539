"""Scalar against `arith.reciprocal` and `arith.scale`."""

from __future__ import annotations

import numpy as np
import pytest
from amaranth.hdl import Module
from amaranth.lib import wiring

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


class KeptMantissa(wiring.Component):
    """A small unit whose `mantissa` always stands at 40000."""

    def __init__(self) -> None:
        super().__init__(Scalar().signature)

    def elaborate(self, platform: object) -> Module:
        m = Module()
        m.submodules.scalar = scalar = Scalar(small=True)
        wiring.connect(m, scalar.reciprocal, wiring.flipped(self.reciprocal))
        wiring.connect(m, scalar.scale, wiring.flipped(self.scale))
        given, operands = self.operands, scalar.operands
        m.d.comb += [operands.valid.eq(given.valid), given.ready.eq(operands.ready), operands.payload.eq(given.payload)]
        m.d.comb += operands.payload.mantissa.eq(40000)
        return m


def test_small_unit() -> None:
    cases = [case | {"mantissa": 40000} for case in extreme_cases()[::3] + random_cases(2, 200)]
    reciprocals, scales = golden(cases)
    check_streams(KeptMantissa(), inputs={"operands": cases}, expected={"reciprocal": reciprocals, "scale": scales})


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
