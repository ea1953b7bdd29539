"""Sequences that enter and leave the slots of a device between steps: each is as if it were alone, and has its share."""

from __future__ import annotations

import random
from functools import cache

import pytest
from small_board import golden, small_model
from test_host_draft import T4, Always, Liar, prompts

from tritape.host.cpu import CPUModel
from tritape.host.device import Device
from tritape.host.draft.model import ModelDraft
from tritape.host.draft.ngram import NGramDraft
from tritape.host.jobs import Batch, Job
from tritape.model.tape.assembler import image
from tritape.sim.golden_device import GoldenDevice, Times

MODEL = small_model()


def opened(times: Times | None = None) -> tuple[Device, GoldenDevice, Batch]:
    transport = GoldenDevice(T4, MODEL, times, host=False)
    device = Device(transport)
    device.load_tape(image(MODEL, T4.groups, T4.max_rows))
    device.pace = Always(transport.now)
    assert device.slots is not None
    return device, transport, Batch(device, device.slots, 16)


@cache
def reference() -> CPUModel:
    return CPUModel(MODEL)


@cache
def alone(prompt: tuple[int, ...], count: int, temperature: float, seed: int) -> list[int]:
    """What a job makes for itself, one token at a time; the processor's model equals the golden one (test_host_cpu.py)."""
    model = reference()
    model.settings(temperature, seed)
    model.reset()
    return list(model.generate_tokens(prompt, count))


def random_job(chooser: random.Random) -> Job:
    prompt = tuple(chooser.choices(range(256), k=chooser.choice((1, 2, 5, 30))))
    return Job(prompt, chooser.randint(1, 30), chooser.choice((0.0, 0.7, 1.3)), chooser.randrange(1000))


def expected(job: Job) -> list[int]:
    return alone(tuple(job.prompt), job.count, job.temperature, job.seed)


@pytest.mark.parametrize("draft", [None, NGramDraft(), ModelDraft(MODEL, "itself")], ids=["plain", "ngram", "model"])
def test_jobs_come_and_go(draft):
    """They are added and dropped at any time, prompts beside decoding beside guesses: every text is its own."""
    chooser = random.Random(4)
    device, _, _ = opened()
    device.speculate(draft)
    device.pace = Always()
    batch = Batch(device, device.slots, 16)
    jobs: list[Job] = []
    dropped: set[Job] = set()
    while len(jobs) < 60 or batch.going:
        if len(jobs) < 60 and chooser.random() < 0.2:
            jobs.append(random_job(chooser))
            batch.add(jobs[-1])
        if jobs and chooser.random() < 0.02:
            dropped.add(chooser.choice(jobs))
            batch.drop(next(reversed(list(dropped))))
        if batch.going:
            batch.advance()
    assert batch.busy == 0
    for job in jobs:
        assert job.tokens == expected(job)[: len(job.tokens)]
        assert len(job.tokens) == job.count or job in dropped
    assert len(dropped) > 3
    if isinstance(draft, ModelDraft):
        assert device.drafted.accepted == device.drafted.guessed > 100


def test_all_slots_are_used():
    """A prompt alone takes all slots; four texts take a slot each, as many steps as one; guesses take what is free."""
    device, transport, batch = opened()
    prompt = prompts(1)[0][:24]
    batch.add(Job(prompt, 1))
    while batch.going:
        batch.advance()
    assert transport.steps == -(-len(prompt) // 4)
    before = transport.steps
    for _ in range(4):
        batch.add(Job([1], 100))
    while batch.going:
        batch.advance()
    assert transport.steps - before == 100
    device.speculate(ModelDraft(MODEL, "itself"))
    device.pace = Always()
    batch = Batch(device, device.slots, 16)
    before = transport.steps
    for _ in range(2):
        batch.add(Job([1], 80))
    while batch.going:
        batch.advance()
    assert transport.steps - before <= 41  # two tokens a step and sequence


def test_who_asks_for_much_keeps_nobody_waiting():
    """A job that comes behind forty of another owner has the first slot that becomes free."""
    _, transport, batch = opened()
    for _ in range(40):
        batch.add(Job([1], 10), "greedy")
    for _ in range(3):
        batch.advance()
    late = Job([2], 10)
    batch.add(late)
    while len(late.tokens) < 10:
        batch.advance()
    assert transport.steps <= 30


def test_a_job_goes_on_elsewhere():
    """One that was cut off is added to another device's batch, and to one that it was given up by: its text is the same."""
    device, _, first = opened()
    _, _, second = opened()
    list(device.generate_tokens([3, 4], 4))
    state, text = device.save_state(), golden(MODEL, [3, 4], 40)
    jobs = [Job([5, 6, 7], 40, 0.9, 3), Job([9], 40), Job([], 36, state=state)]
    wanted = [alone((5, 6, 7), 40, 0.9, 3), alone((9,), 40, 0.0, 0), text[4:]]
    for job in jobs:
        first.add(job)
    while len(jobs[0].tokens) < 15:
        first.advance()
    for job in jobs[:2]:
        first.drop(job)
    for job in jobs:
        second.add(job)
    while second.going:
        second.advance()
    for job, tokens in zip(jobs, wanted, strict=True):
        assert job.tokens == tokens


def test_a_state_with_tokens_that_nobody_took():
    """They come first, wherever it goes on."""
    device, _, _ = opened()
    text = golden(MODEL, [3, 4], 60)
    device.speculate(Liar([3, 4, *text], 0.3))
    device.pace = Always()
    left = device.generate_tokens([3, 4], 50)
    came = [next(left) for _ in range(6)]
    left.close()
    state = device.save_state()
    device.speculate(None)
    for count in (1, 2, 30):
        job = Job([], count, state=state, keep=True)
        list(device.run_jobs([job]))
        assert came + job.tokens == text[: 6 + count]
        more = Job([], 5, state=job.state)
        list(device.run_jobs([more]))
        assert more.tokens == text[6 + count : 11 + count]
