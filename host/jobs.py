"""Many sequences on one device: as many together as it has slots, the others in turn."""

from __future__ import annotations

from collections import deque
from collections.abc import Generator, Iterator, Sequence
from dataclasses import dataclass, field

from tritape.base.errors import TritapeError
from tritape.host import protocol
from tritape.host.sequence_device import SequenceDevice
from tritape.host.slots import Entry, Slots
from tritape.hw.link.token_runner import WINDOW


@dataclass
class Job:
    """A sequence to run: `count` tokens behind a prompt, with its own sampler.

    The tokens are the same on every device and beside any other job.
    """

    prompt: Sequence[int]
    count: int
    temperature: float = 0.0
    """0 is greedy."""
    seed: int = 0
    """Of the sampler, 0 to 2^32 - 1; 0: its default."""
    state: bytes | None = None
    """What `Device.save_state` or an earlier job gave, to go on from; the prompt may then be empty."""
    keep: bool = False
    """Whether `state` is to be where the job ended."""
    tokens: list[int] = field(default_factory=list)
    """What was generated so far."""


def run_jobs(device: SequenceDevice, jobs: Sequence[Job]) -> Iterator[tuple[int, int]]:
    """`Device.run_jobs`."""
    for job in jobs:
        if job.count < 1:
            raise TritapeError(f"count of a job must be at least 1, not {job.count!r}; ask for more")
        if not job.prompt and job.state is None:
            raise TritapeError("a job must have a token in its prompt or a state, not neither; give it a prompt")
    if device.slots is not None:
        batch = Batch(device, device.slots)
        for job in jobs:
            batch.add(job)
        yield from batch.run()
        return
    for number, job in enumerate(jobs):
        device.settings(job.temperature, job.seed)
        device.reset()
        if job.state is not None:
            device.restore_state(job.state)
        for token in device.generate_tokens(job.prompt, job.count):
            job.tokens.append(token)
            yield number, token
        if job.keep:
            job.state = device.save_state()


@dataclass
class _Live:
    """A job on a slot."""

    number: int
    job: Job
    fresh: bool
    feed: list[int]
    """Tokens that are still to be run; then it goes on by itself."""
    silent: int
    """Steps to come that do not end a prompt."""
    left: int
    """Steps to come."""


class Batch:
    """Jobs on the slots of a device: every slot runs its own, and takes the next one when it has ended.

    Between two tokens of `run` jobs may be added, and dropped; with `stride` that has effect after so many steps at most.
    """

    def __init__(self, device: SequenceDevice, slots: Slots, stride: int | None = None) -> None:
        self._device, self._slots, self._stride = device, slots, stride
        self._waiting: deque[tuple[int, Job]] = deque()
        self._live: dict[int, _Live] = {}
        self._added = 0
        self._dropped: set[int] = set()

    def add(self, job: Job) -> int:
        """Let a job take its turn; its number."""
        self._waiting.append((self._added, job))
        self._added += 1
        return self._added - 1

    def drop(self, number: int) -> None:
        """End a job where it stands, unless it has ended."""
        self._waiting = deque(entry for entry in self._waiting if entry[0] != number)
        self._dropped.add(number)

    @property
    def busy(self) -> int:
        """Slots at work."""
        return len(self._live)

    def run(self) -> Generator[tuple[int, int]]:
        """(Number of the job, token) as they come, until no job is left."""
        device, slots, live = self._device, self._slots, self._live
        device.reset()
        while True:
            for slot in [slot for slot, one in live.items() if one.number in self._dropped]:
                del live[slot]
            self._dropped.clear()
            for slot in range(slots.count):
                while slot not in live and self._waiting:
                    yield from self._begin(slot)
            if not live:
                return
            # The slots go on together until one of them ends, or there are more prompt tokens than one command carries.
            feeding = min(max(len(one.feed) for one in live.values()), slots.most_steps)
            count = min(one.left for one in live.values())
            if self._stride is not None:
                count = min(count, self._stride)
            if any(len(one.feed) > feeding for one in live.values()):
                count = min(count, feeding)
            if feeding:
                steps = [
                    [self._entry(slot, step) for slot in range(slots.count)] for step in range(min(count, feeding))
                ]
                slots.load(device.position, steps)
            yield from self._results(count)
            for slot, one in list(live.items()):
                if one.left == 0:
                    if one.job.keep:
                        one.job.state = device.slot_state(slot, one.job.tokens[-1]).pack()
                    del live[slot]

    def _begin(self, slot: int) -> Iterator[tuple[int, int]]:
        """Put the next job on a slot."""
        number, job = self._waiting.popleft()
        device, feed, fresh, count = self._device, list(job.prompt), True, job.count
        if job.state is not None:
            saved = device.put_state(slot, job.state)
            fresh = saved.fresh
            if not feed:
                if saved.last is None:
                    raise TritapeError("a sequence must begin with a token, not with none; give the job a prompt")
                feed = [saved.last]
                for token in saved.ahead[:count]:
                    job.tokens.append(token)
                    yield number, token
                if count <= len(saved.ahead):
                    if job.keep:
                        rest = saved.ahead[count:]
                        job.state = device.slot_state(slot, saved.last, rest).pack()
                    return
                count -= len(saved.ahead)
        device.check_tokens(feed)
        self._slots.sampler(slot, device.inverse_temperature(job.temperature), job.seed)
        self._live[slot] = _Live(number, job, fresh, feed, len(feed) - 1, len(feed) + count - 1)

    def _entry(self, slot: int, step: int) -> Entry | None:
        one = self._live.get(slot)
        if one is None:
            return None
        return Entry(one.feed[step] if step < len(one.feed) else None, fresh=one.fresh and step == 0)

    def _results(self, count: int) -> Iterator[tuple[int, int]]:
        """Let all slots that have a job run so many steps; the tokens that count, as they come."""
        device, going, read, done = self._device, list(self._live), 0, False
        start = device.position
        device.position += count
        try:
            while read < count:
                limit = start + min(count, read + WINDOW) + 1
                reply, rows = self._slots.poll(start + read + 1, limit, going, count - read)
                if not rows and not reply.running:
                    raise TritapeError(protocol.STOPPED)
                for row in rows:
                    read += 1
                    for slot in going:
                        one = self._live[slot]
                        one.left, one.fresh = one.left - 1, False
                        del one.feed[:1]
                        if one.silent:
                            one.silent -= 1
                            continue
                        one.job.tokens.append(row[slot])
                        done = read == count and slot == going[-1]
                        yield one.number, row[slot]
            done = True
        except TritapeError:
            done = True  # it has stopped, or is gone
            raise
        finally:
            if not done:
                device.stop()
