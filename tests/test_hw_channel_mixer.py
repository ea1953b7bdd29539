"""`ChannelMixer` against `arith.silu`, `arith.rescale` and `arith.sat18`."""

import numpy as np
import pytest
from wrappers import CountPulses

from tritape.hw.mixer.channel_mixer import ChannelMixer
from tritape.model import arith
from tritape.sim.bench import SIMULATORS, check_streams


def run(blocks, simulator, **options):
    """`blocks`: list of (gates, ups, shift)."""
    values, elements, saturated = [], [], 0
    for gates, ups, shift in blocks:
        gates, ups = np.asarray(gates, dtype=np.int64), np.asarray(ups, dtype=np.int64)
        values += np.stack([gates, ups], axis=1).reshape(-1).tolist()
        products = arith.rescale(ups, arith.silu(gates), shift)
        elements += arith.sat18(products).tolist()
        saturated += arith.count_saturated(products)
    result = check_streams(
        CountPulses(ChannelMixer(), "saturated"),
        inputs={"commands": [{"pairs": len(g), "shift": s} for g, _, s in blocks], "values": values},
        expected={"elements": elements},
        finals={"count": saturated},
        simulator=simulator,
        **options,
    )
    return result, saturated


def block(length, shift, seed=8):
    rng = np.random.default_rng(seed)
    return rng.integers(-131071, 131072, length), rng.integers(-131071, 131072, length), shift


@pytest.mark.parametrize("simulator", SIMULATORS)
def test_blocks_one_after_the_other(simulator):
    _, saturated = run(
        [block(1, 17), block(40, 12), block(0, 3), block(65, 17), block(97, 20), block(1, 0), block(1, 47)], simulator
    )
    assert saturated > 10  # the data must meet the clamp


def test_extremes_at_every_shift():
    gates = [131071, 131071, -131071, -131071, 1, -1, 0, 2048]
    ups = [131071, -131071, 131071, -131071, 131071, -131071, 5, -2048]
    run([(gates, ups, shift) for shift in range(48)], "icarus")


def test_rate_and_latency():
    result, _ = run([block(97, 17)], "icarus", input_stall=0, output_stall=0)
    values, elements = result.transfers["values"], result.transfers["elements"]
    assert np.diff(values).tolist() == [1] * 193
    assert [e - v for e, v in zip(elements, values[1::2])] == [ChannelMixer.LATENCY] * 97
