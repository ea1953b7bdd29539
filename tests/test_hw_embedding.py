"""`Embedding` against `arith.embed`."""

import numpy as np
import pytest

from tritape.base.errors import TritapeError
from tritape.hw.tape.embedding import Embedding
from tritape.model import arith
from tritape.sim.bench import SIMULATORS, check_streams


def run(groups, rows, simulator, **options):
    """`rows`: list of (codes, multiplier)."""
    rng = np.random.default_rng(5)
    words = []
    for codes, _ in rows:
        padded = rng.integers(0, 256, -(-len(codes) // groups) * groups, dtype=np.uint8)  # the padding must not matter
        padded[: len(codes)] = np.asarray(codes, dtype=np.int8).view(np.uint8)
        words += [int.from_bytes(word.tobytes(), "little") for word in padded.reshape(-1, groups)]
    return check_streams(
        Embedding(groups),
        inputs={
            "commands": [{"length": len(codes), "multiplier": multiplier} for codes, multiplier in rows],
            "words": words,
        },
        expected={"elements": [int(x) for codes, c in rows for x in arith.embed(np.asarray(codes, dtype=np.int64), c)]},
        simulator=simulator,
        **options,
    )


def rows(*lengths):
    rng = np.random.default_rng(6)
    return [(rng.integers(-127, 128, length), int(rng.integers(0, 65536))) for length in lengths]


@pytest.mark.parametrize("simulator", SIMULATORS)
@pytest.mark.parametrize("groups", [4, 26])
def test_rows_one_after_the_other(groups, simulator):
    run(groups, rows(1, 40, 65, 0, 97, 1, 1, 52, 4), simulator)


def test_extremes():
    codes = [-127, 127, -1, 1, 0]
    run(4, [(codes, 65535), (codes, 0), (codes, 1), (codes, 128), (codes, 256)], "icarus")


@pytest.mark.parametrize("groups", [4, 26])
def test_one_element_a_cycle_also_between_words(groups):
    result = run(groups, rows(97), "icarus", input_stall=0, output_stall=0)
    assert result.transfers["elements"][0] - result.transfers["words"][0] == Embedding.LATENCY
    assert np.diff(result.transfers["elements"]).tolist() == [1] * 96


def test_refuses_groups():
    with pytest.raises(TritapeError, match="groups must be at least 4, not 3"):
        Embedding(3)
