"""`Argmax` against `numpy.argmax`, which also takes the lowest index on a tie."""

import numpy as np
import pytest

from tritape.base.errors import TritapeError
from tritape.hw.head.argmax import Argmax
from tritape.sim.bench import SIMULATORS, check_streams


def run(vectors, simulator, **options):
    return check_streams(
        Argmax(100),
        inputs={
            "scores": [{"score": int(s), "last": i == len(v) - 1} for v in vectors for i, s in enumerate(v)],
        },
        expected={"winner": [{"index": int(np.argmax(v)), "score": int(np.max(v))} for v in vectors]},
        simulator=simulator,
        **options,
    )


@pytest.mark.parametrize("simulator", SIMULATORS)
def test_vectors_of_odd_lengths_one_after_the_other(simulator):
    rng = np.random.default_rng(2)
    vectors = [rng.integers(-(2**31), 2**31, length) for length in (1, 40, 65, 97, 1)]
    vectors += [rng.integers(-3, 4, 97) for _ in range(4)]  # many ties
    run(vectors, simulator)


def test_ties_extremes_and_all_negative():
    low, high = -(2**31), 2**31 - 1
    run([[7, 7, 7], [low, low], [low, high, high], [high, low, high], [-5, -3, -3, -4], [low], [0, -1]], "icarus")


def test_latency_and_rate():
    result = run([range(97), range(40)], "icarus", input_stall=0, output_stall=0)
    scores, winner = result.transfers["scores"], result.transfers["winner"]
    assert scores[96] - scores[0] == 96
    assert winner[0] - scores[96] == Argmax.LATENCY
    assert scores[97] - winner[0] == 1


@pytest.mark.parametrize("rows", [0, 65537])
def test_refuses_sizes(rows):
    with pytest.raises(TritapeError, match=rf"max_rows must be 1\.\.65536, not {rows}"):
        Argmax(rows)
