"""Statistics of all lanes joined, against `arith.reciprocal` and `arith.scale`; and a lane's RMSNorm with its scalar unit."""

from __future__ import annotations

import numpy as np
import pytest

from tritape.hw.norm.vector_scalar import VectorScalar
from tritape.model import arith
from tritape.sim.bench import SIMULATORS, check_streams


@pytest.mark.parametrize("simulator", SIMULATORS)
@pytest.mark.parametrize("engines", [1, 2, 3, 5])
def test_largest_maximum_and_sum_of_squares(engines: int, simulator: str) -> None:
    rng = np.random.default_rng(engines)
    operands: list[list[dict[str, int]]] = [[] for _ in range(engines)]
    reciprocals, scales = [], []
    for number in range(12):
        maxima = rng.integers(0, 1 << int(rng.integers(1, 18)), engines)
        sums = rng.integers(0, (1 << 48) // engines if number % 2 else 1000, engines)
        if number == 0:
            maxima[:], sums[:] = 0, 0
        eps, mantissa, exponent = (
            int(rng.integers(0, 1 << 30)),
            int(rng.integers(1 << 15, 1 << 16)),
            int(rng.integers(-20, 20)),
        )
        for lane in range(engines):
            operands[lane].append(
                {
                    "maximum": int(maxima[lane]),
                    "square_sum": int(sums[lane]),
                    "eps": eps,
                    "mantissa": mantissa,
                    "exponent": exponent,
                }
            )
        largest, total = int(maxima.max()), int(sums.sum())
        r, e = arith.reciprocal(largest)
        reciprocals.append({"r": r, "e": e})
        s, shift = arith.scale(largest, total, eps, mantissa, exponent)
        scales.append({"mantissa": s, "shift": shift})
    check_streams(
        VectorScalar(engines),
        inputs={f"operands.{lane}": operands[lane] for lane in range(engines)},
        expected={**{f"reciprocal.{lane}": reciprocals for lane in range(engines)}, "scales": scales},
        simulator=simulator,
        input_stall=0,
        output_stall=0,
    )
