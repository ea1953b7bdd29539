"""Quantiser against `arith.quantise`."""

from __future__ import annotations

import numpy as np
import pytest

from tritape.hw.norm.quantiser import Quantiser
from tritape.model import arith
from tritape.sim.bench import SIMULATORS, check_streams

Elements = list[dict[str, int]]


def vectors(seed: int, maxima: list[int]) -> tuple[Elements, Elements, Elements]:
    """Reciprocals, elements and activations of one vector for each maximum."""
    rng = np.random.default_rng(seed)
    reciprocals, elements, activations = [], [], []
    for number, maximum in enumerate(maxima):
        u = rng.integers(-maximum, maximum + 1, [1, 40, 7, 2][number % 4])
        u[-1] = maximum if number % 8 else -maximum
        if len(u) > 30:
            half = (2 * np.arange(1, 15) + 1) * maximum // 254  # near the ties
            u[:14], u[14:28] = half, -half
        r, e = arith.reciprocal(maximum)
        reciprocals.append({"r": r, "e": e})
        for j, (value, q) in enumerate(zip(u, arith.quantise(u, r, e))):
            last = int(j == len(u) - 1)
            elements.append({"negative": int(value < 0), "magnitude": abs(int(value)), "last": last})
            activations.append({"value": int(q), "last": last})
    return reciprocals, elements, activations


MAXIMA = [0, 1, 2, 3, 127, 128, 254, 65535, 65536, 130816, 131071] + [(5 << bits) + 3 for bits in range(15)] * 4


@pytest.mark.parametrize("simulator", SIMULATORS)
def test_equals_the_model(simulator: str) -> None:
    reciprocals, elements, activations = vectors(1, MAXIMA)
    assert {a["value"] for a in activations} >= {-127, 0, 127}
    check_streams(
        Quantiser(),
        inputs={"reciprocal": reciprocals, "elements": elements},
        expected={"activations": activations},
        simulator=simulator,
    )


def test_latency_and_rate() -> None:
    reciprocals, elements, activations = vectors(2, [65536, 1000, 131071])
    result = check_streams(
        Quantiser(),
        inputs={"reciprocal": reciprocals, "elements": elements},
        expected={"activations": activations},
        input_stall=0,
        output_stall=0,
    )
    assert result.latency["activations"] == Quantiser.LATENCY + 1
    taken = result.transfers["elements"]
    assert result.transfers["activations"] == [at + Quantiser.LATENCY for at in taken]
    assert taken == [1, *range(3, 43), *range(44, 51)]  # the element after a vector's last waits one cycle
