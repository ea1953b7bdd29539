"""`Sampler` against `arith.xorshift32`, `arith.gumbel` and `arith.round_shift`."""

from functools import cache

import numpy as np
import pytest
from amaranth import Module, Signal
from amaranth.lib import wiring

from tritape.hw.head.sampler import Sampler
from tritape.model import arith
from tritape.sim.bench import SIMULATORS, check_streams


class SeededSampler(wiring.Component):
    """A sampler whose seed is set once after reset, before it takes logits."""

    def __init__(self):
        self.sampler = Sampler()
        members = self.sampler.signature.members
        super().__init__({name: members[name] for name in ("logits", "scores", "inv_temperature", "seed", "state")})

    def elaborate(self, platform):
        m = Module()
        m.submodules.sampler = sampler = self.sampler
        seeded = Signal()
        m.d.sync += seeded.eq(1)
        wiring.connect(m, wiring.flipped(self.scores), sampler.scores)
        m.d.comb += [
            sampler.logits.valid.eq(self.logits.valid & seeded),
            sampler.logits.payload.eq(self.logits.payload),
            self.logits.ready.eq(sampler.logits.ready & seeded),
            sampler.inv_temperature.eq(self.inv_temperature),
            sampler.seed.eq(self.seed),
            sampler.reseed.eq(~seeded),
            self.state.eq(sampler.state),
        ]
        return m


fresh, seeded = cache(Sampler), cache(SeededSampler)  # each once: elaborating it takes longer than the simulation


def golden(logits, inv_temperature, state):
    """Scores and the last state, from the functions that `arith.choose` is made of."""
    if inv_temperature == 0:
        return list(logits), state
    states = []
    for _ in logits:
        state = arith.xorshift32(state)
        states.append(state)
    scores = arith.round_shift(np.array(logits) * inv_temperature, 12) + arith.gumbel(np.array(states))
    return scores.tolist(), state


def run(logits, inv_temperature, simulator, seed=None, **options):
    """Without `seed`: a sampler as it comes out of reset."""
    logits = [int(y) for y in logits]
    scores, state = golden(logits, inv_temperature, seed or arith.XORSHIFT_DEFAULT)
    return check_streams(
        fresh() if seed is None else seeded(),
        inputs={"logits": logits},
        expected={"scores": scores},
        statics={"inv_temperature": inv_temperature} | ({} if seed is None else {"seed": seed}),
        finals={"state": state},
        simulator=simulator,
        **options,
    )


LOGITS = [131071, -131071, 0, 1, -1, *np.random.default_rng(3).integers(-131071, 131072, 300)]


@pytest.mark.parametrize("simulator", SIMULATORS)
@pytest.mark.parametrize("inv_temperature", [0, 1, 4096, 131071])
def test_scores_and_generator(inv_temperature, simulator):
    run(LOGITS, inv_temperature, simulator)


@pytest.mark.parametrize("seed", [0, 1, 0xFFFFFFFF, 12345])
def test_seeds(seed):
    run(LOGITS[:40], 5000, "icarus", seed=seed)


def previous(state):
    """The generator state before `state` (each of the three steps undone)."""

    def undo(value, shift):
        result = value
        for _ in range(32):
            result = value ^ (result << shift if shift > 0 else result >> -shift) & 0xFFFFFFFF
        return result

    return undo(undo(undo(state, 5), -17), 13)


def test_many_leading_zeros():
    for zeros in (*range(9), 15, 16, 23, 24, 30, 31):  # a run each; random states have few leading zeros
        state = 1 << (31 - zeros) | (0x2D3A5C71 & ((1 << (31 - zeros)) - 1))
        assert arith.xorshift32(previous(state)) == state
        run([5, -7, 9], 4096, "icarus", seed=previous(state), input_stall=0)


def test_random_long_run_covers_the_table():
    rng = np.random.default_rng(4)
    run(rng.integers(-131071, 131072, 5000), 70000, "icarus", input_stall=0, output_stall=0)


@pytest.mark.parametrize("inv_temperature", [0, 4096])
def test_one_element_a_cycle_after_the_latency(inv_temperature):
    result = run(LOGITS[:97], inv_temperature, "icarus", input_stall=0, output_stall=0)
    assert result.latency["scores"] == Sampler.LATENCY
    assert np.diff(result.transfers["scores"]).tolist() == [1] * 96
