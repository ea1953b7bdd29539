"""`SiLU` against `arith.sigma` and `arith.silu`."""

import numpy as np
import pytest

from tritape.hw.mixer.silu import SiLU
from tritape.model import arith
from tritape.sim.bench import SIMULATORS, check_streams


def run(values, simulator, **options):
    values = np.asarray(values, dtype=np.int64)
    operands = np.arange(len(values)) * 977 % 262144 - 131072
    sigma, silu = arith.sigma(values), arith.silu(values)
    return check_streams(
        SiLU(),
        inputs={"values": [{"value": int(a), "operand": int(b)} for a, b in zip(values, operands)]},
        expected={
            "activated": [
                {"sigma": int(s), "silu": int(y), "operand": int(b)} for s, y, b in zip(sigma, silu, operands)
            ]
        },
        simulator=simulator,
        **options,
    )


BOUNDARIES = np.unique(np.concatenate([np.arange(16, 32768, 32) + d for d in (-1, 0, 1)] + [[0, 1, 131070, 131071]]))


@pytest.mark.parametrize("simulator", SIMULATORS)
def test_random_values_and_extremes(simulator):
    rng = np.random.default_rng(1)
    run([131071, -131071, 0, -1, *rng.integers(-131071, 131072, 100), *rng.integers(-8000, 8001, 200)], simulator)


def test_every_table_entry_and_rounding_boundary_of_both_signs():
    run(np.concatenate([BOUNDARIES, -BOUNDARIES]), "icarus", input_stall=0, output_stall=0)


def test_one_element_a_cycle_after_the_latency():
    result = run(np.arange(97) - 48, "icarus", input_stall=0, output_stall=0)
    assert result.latency["activated"] == SiLU.LATENCY
    assert np.diff(result.transfers["activated"]).tolist() == [1] * 96
