"""The host's device with several slots against the simulated gateware: what it gives is what one slot gives."""

from __future__ import annotations

import itertools
import random
from collections.abc import Iterator
from types import SimpleNamespace

import numpy as np
import pytest
from small_board import ONE_SLOT, THREE_SLOTS, TWO_SLOTS, golden, small_model

from tritape.base.errors import TritapeError
from tritape.host.device import Device
from tritape.host.jobs import Job
from tritape.host.protocol import inverse_temperature
from tritape.host.slots import Slots, check_chains, generator_after, prompt_steps
from tritape.host.transport.noisy import CutTransport, NoisyTransport
from tritape.hw.config import Config
from tritape.hw.link.commands import Command
from tritape.model import arith
from tritape.model.golden import IntegerModel
from tritape.model.tape.assembler import image
from tritape.sim.generate import RETRY_S, Simulation

TEMPERATURE, SEED = 0.9, 12345
PROMPT = random.Random(1).choices(range(256), k=151)
"""Longer than a command, and of odd length."""
MODEL = small_model()
INVERSE = inverse_temperature(TEMPERATURE, MODEL.logit_fraction)


@pytest.fixture(
    scope="module", params=[TWO_SLOTS, pytest.param(THREE_SLOTS, marks=pytest.mark.long)], ids=["T2", "T3-E2"]
)
def config(request: pytest.FixtureRequest) -> Config:
    return request.param


@pytest.fixture(scope="module")
def simulation(config: Config) -> Iterator[Simulation]:
    with Simulation(config) as made:
        yield made


def opened(simulation: Simulation, config: Config) -> Device:
    device = Device(CutTransport(simulation), retry_s=RETRY_S)
    device.load_tape(image(MODEL, config.groups, config.max_rows, config.engines))
    return device


@pytest.mark.long
def test_one_sequence(simulation: Simulation, config: Config):
    """Prompts over all slots, sampled and greedy; a state saved and restored; logits; a sequence left early."""
    device = opened(simulation, config)
    batch = device.identity.batch
    expected = golden(MODEL, PROMPT, 140, INVERSE, SEED)
    device.settings(TEMPERATURE, SEED)
    before = device.counters()["tokens"]
    assert list(device.generate_tokens(PROMPT, 100)) == expected[:100]
    assert device.counters()["tokens"] - before == -(-len(PROMPT) // batch) + 99
    assert list(device.generate_tokens([], 20)) == expected[100:120]
    more = [*PROMPT, *expected[:120], 7, 8, 9, 10]  # the last token chosen goes first with the next prompt
    assert list(device.generate_tokens([expected[119], 7, 8, 9, 10], 30)) == golden(MODEL, more, 30, INVERSE, SEED)

    device.settings(0.0)
    device.reset()
    greedy = golden(MODEL, PROMPT, 60)
    assert list(device.generate_tokens(PROMPT, 20)) == greedy[:20]
    state = device.save_state()
    device.reset()
    model = IntegerModel(MODEL)
    expected_logits = [model.step(token) for token in (1, 2, 9, 8)][-1]
    assert np.array_equal(device.logits([1, 2, 9, 8]), expected_logits)
    few = device.generate_tokens([], 1000)
    next(few)
    few.close()
    device.restore_state(state)
    assert list(device.generate_tokens([], 40)) == greedy[20:]
    assert device.self_test()["memory"]
    assert device.link.resent == 0


def jobs_of_every_kind(saved: bytes) -> tuple[list[Job], list[list[int]]]:
    """More sequences than slots, of different lengths, greedy and sampled, one going on from a state; what must come."""
    prompts = [PROMPT[:1], PROMPT[:100], PROMPT[3:8], PROMPT[20:22]]
    jobs, expected = [], []
    for number, (prompt, count, sampled) in enumerate(zip(prompts, (7, 3, 40, 1), (1, 0, 1, 0))):
        jobs.append(Job(prompt, count, TEMPERATURE * sampled, SEED + number, keep=number < 2))
        expected.append(golden(MODEL, prompt, count, INVERSE * sampled, SEED + number))
    jobs.append(Job([], 5, state=saved))
    expected.append(golden(MODEL, [3, 4], 9)[4:])
    jobs.append(Job([9, 10], 5, state=saved))
    expected.append(golden(MODEL, [3, 4, *golden(MODEL, [3, 4], 4)[:3], 9, 10], 5))
    return jobs, expected


@pytest.mark.slow
@pytest.mark.optimised
def test_many_sequences(simulation: Simulation, config: Config):
    """All together, each as if it were alone; states kept go on elsewhere."""
    device = opened(simulation, config)
    list(device.generate_tokens([3, 4], 4))
    jobs, expected = jobs_of_every_kind(device.save_state())
    before = device.counters()["tokens"]
    came = list(device.run_jobs(jobs))
    steps = device.counters()["tokens"] - before
    assert [job.tokens for job in jobs] == expected
    assert sorted(came) == sorted((number, token) for number, tokens in enumerate(expected) for token in tokens)
    assert steps < sum(len(job.prompt) + job.count for job in jobs) * 0.8  # for they ran together
    for number in (0, 1):
        job = jobs[number]
        assert job.state is not None
        (again,) = again_jobs = [Job([], 6, state=job.state)]
        list(device.run_jobs(again_jobs))
        assert again.tokens == golden(MODEL, [*job.prompt, *job.tokens], 6)
    device.settings(0.0)
    assert list(device.generate_tokens([5, 6, 7], 4)) == golden(MODEL, [5, 6, 7], 4)

    left = device.run_jobs([Job([1, 2], 500), Job([5], 500)])
    next(left)
    left.close()
    assert list(device.generate_tokens([5, 6, 7], 4)) == golden(MODEL, [5, 6, 7], 4)


@pytest.mark.long
def test_many_sequences_on_one_slot():
    """The same calls on a device with one slot give the same."""
    with Simulation(ONE_SLOT) as simulation:
        device = opened(simulation, ONE_SLOT)
        list(device.generate_tokens([3, 4], 4))
        jobs, expected = jobs_of_every_kind(device.save_state())
        list(device.run_jobs(jobs))
        assert [job.tokens for job in jobs] == expected


@pytest.mark.long
def test_noise(simulation: Simulation, config: Config):
    """1 % of the bytes of each direction damaged: nothing lost or wrong, in a prompt and in sequences together."""
    opened(simulation, config)
    noisy = NoisyTransport(CutTransport(simulation), 0.01, seed=3)
    device = Device(noisy, retry_s=0.0004)
    device.boot()
    assert list(device.generate_tokens(PROMPT[:41], 30)) == golden(MODEL, PROMPT[:41], 30)
    jobs = [Job(PROMPT[at : at + 9], 20 + at) for at in range(5)]
    list(device.run_jobs(jobs))
    assert [job.tokens for job in jobs] == [golden(MODEL, job.prompt, job.count) for job in jobs]
    assert device.link.resent > 10


@pytest.mark.slow
@pytest.mark.optimised
def test_jobs_that_cannot_be(simulation: Simulation, config: Config):
    device = opened(simulation, config)
    fresh = device.save_state()
    for job, message in (
        (Job([1], 0), "^count of a job must be at least 1, not 0; ask for more$"),
        (Job([], 1), "^a job must have a token in its prompt or a state, not neither; give it a prompt$"),
        (Job([], 1, state=fresh), "^a sequence must begin with a token, not with none; "),
        (Job([256], 1), "^token must be within the tape's vocabulary, not outside; "),
        (Job([1], 1, state=b"x" * 60), "^state must be what save_state gave, not other bytes; "),
    ):
        with pytest.raises(TritapeError, match=message):
            list(device.run_jobs([job]))
    with pytest.raises(TritapeError, match=r"^device must have a tokenizer to take text, not none; "):
        device.generate_many(["a"], 1)
    assert list(device.generate_tokens([5], 2)) == golden(MODEL, [5], 2)


def test_generator_goes_ahead():
    """As many single steps, for every number up to some, and from the default."""
    state = 77
    for steps in range(70):
        assert generator_after(77, steps) == state
        state = arith.xorshift32(state)
    state = arith.XORSHIFT_DEFAULT
    for _ in range(5000):
        state = arith.xorshift32(state)
    assert generator_after(0, 5000) == state
    assert generator_after(77, (1 << 32) - 1) == 77  # its period


@pytest.mark.parametrize(("count", "length"), list(itertools.product((2, 3, 5), (1, 2, 7, 10))))
def test_prompts_go_round_the_ring(count: int, length: int):
    """Every step has tokens on neighbours, begins where the last one ended, and is allowed; all tokens, in order."""
    steps, end = prompt_steps(range(length), 1, count, fresh=True)
    slot, seen = 1, []
    for step in steps:
        check_chains(step, count)
        first = slot
        for offset in range(count):
            entry = step[(first + offset) % count]
            if entry is not None:
                assert entry.token is not None
                assert (entry.chain, entry.fresh) == (offset > 0, not seen)
                slot = (first + offset) % count
                seen.append(entry.token)
    assert (seen, slot, len(steps)) == (list(range(length)), end, -(-length // count))


def test_a_boot_tells_the_slots_everything_again():
    """A device that was reset has forgotten its temperature and which slot was chosen."""
    told: list[tuple[Command, int]] = []
    slots = Slots(SimpleNamespace(call=lambda *command: told.append(command)), 2)
    slots.sampler(1, 5, 7)
    everything, told[:] = list(told), []
    slots.sampler(1, 5, 7)
    assert told == [(Command.SEED, 7)]
    slots.doubt()
    told[:] = []
    slots.sampler(1, 5, 7)
    assert told == everything == [(Command.SLOT, 1), (Command.TEMPERATURE, 5), (Command.SEED, 7)]
