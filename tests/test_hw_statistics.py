"""Statistics against `arith.statistics`."""

from __future__ import annotations

import numpy as np
import pytest

from tritape.hw.norm.statistics import Statistics
from tritape.model import arith
from tritape.sim.bench import SIMULATORS, check_streams

IDENTITY = 32767


def vectors(seed: int) -> tuple[list[dict[str, int]], list[dict[str, int]]]:
    """Elements and results of vectors of many lengths; every third keeps A. The first must not."""
    rng = np.random.default_rng(seed)
    elements, results = [], []
    square_sum = 0
    for number, length in enumerate([1, 300, 2, 1, 1, 40, 65, 3, 1, 5]):
        x = rng.integers(-131071, 131072, length) >> rng.integers(0, 18)
        if number in (1, 6):
            x[:] = 131071  # the largest sums
        keep = number % 3 == 2
        gains = rng.integers(-32767, 32768, (2, length)) if number != 6 else np.full((2, length), -IDENTITY)
        golden = arith.statistics(x, None if keep else gains[0], gains[1], square_sum)
        square_sum = golden.square_sum
        results.append({"maximum": golden.maximum, "square_sum": square_sum})
        for j, (v, u) in enumerate(zip(arith.apply_gain(x, gains[0]), arith.apply_gain(x, gains[1]))):
            elements.append(
                {"first": int(v), "magnitude": abs(int(u)), "last": int(j == length - 1), "keep": int(keep)}
            )
    return elements, results


@pytest.mark.parametrize("simulator", SIMULATORS)
@pytest.mark.parametrize("seed", [1, 2])
def test_equals_the_model(seed: int, simulator: str) -> None:
    elements, results = vectors(seed)
    check_streams(Statistics(), inputs={"elements": elements}, expected={"result": results}, simulator=simulator)


def test_largest_sum_of_squares_fits() -> None:
    elements = [{"first": -131067, "magnitude": 131067, "last": int(j == 16383), "keep": 0} for j in range(16384)]
    check_streams(
        Statistics(),
        inputs={"elements": elements},
        expected={"result": [{"maximum": 131067, "square_sum": 16384 * 131067**2}]},
        input_stall=0,
    )


def test_latency_and_one_element_a_cycle() -> None:
    elements, results = vectors(3)
    result = check_streams(
        Statistics(), inputs={"elements": elements}, expected={"result": results}, input_stall=0, output_stall=0
    )
    ends = [at for at, element in zip(result.transfers["elements"], elements) if element["last"]]
    assert result.transfers["result"] == [at + Statistics.LATENCY for at in ends]
    assert result.transfers["elements"][-1] - result.transfers["elements"][0] == len(elements) - 1
