"""Many sequences on one device: as many together as it has slots, the others in turn."""

from __future__ import annotations

from collections.abc import Hashable, Iterator, Sequence
from dataclasses import dataclass, field

from tritape.base.errors import TritapeError
from tritape.host.sequence_device import SequenceDevice
from tritape.host.slots import Slots, Stream
from tritape.host.stepper import Stepper
from tritape.host.track import Track
from tritape.hw.link.token_runner import WINDOW


@dataclass(eq=False)
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
    """What was generated so far; a job that has some goes on behind them."""


def run_jobs(device: SequenceDevice, jobs: Sequence[Job]) -> Iterator[tuple[int, int]]:
    """`Device.run_jobs`."""
    for job in jobs:
        if job.count < 1:
            raise TritapeError(f"count of a job must be at least 1, not {job.count!r}; ask for more")
        if not job.prompt and job.state is None:
            raise TritapeError("a job must have a token in its prompt or a state, not neither; give it a prompt")
    if device.slots is not None:
        device.reset()
        batch, numbers = Batch(device, device.slots), {job: number for number, job in enumerate(jobs)}
        for job in jobs:
            batch.add(job)
        try:
            while batch.going:
                for job, token in batch.advance():
                    yield numbers[job], token
        finally:
            batch.close()
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


class Batch:
    """Jobs on the slots of a device with several: they enter and leave between steps, and share each step.

    A free slot goes to the job whose owner has the fewest slots then, and of those to the one that came first: nobody who asks
    for many things at once keeps others waiting. Prompts, and guesses where the device has a draft, take the slots that no job
    has. A job's tokens are those that it has alone. `most_ahead`: steps that run on when a job is dropped, or one could enter.
    """

    def __init__(self, device: SequenceDevice, slots: Slots, most_ahead: int = WINDOW) -> None:
        self._device, self._slots = device, slots
        self._stepper = Stepper(slots, device.position, device.pace, changed=self._changed, most_ahead=most_ahead)
        self._stepper.counts = device.drafted
        self._waiting: list[tuple[Hashable, Job]] = []
        self._live: dict[Track, tuple[Hashable, Job]] = {}
        self._dropped: set[Track] = set()

    def add(self, job: Job, owner: Hashable | None = None) -> None:
        """Let a job take its turn; without an owner it is its own. One that has tokens goes on behind them."""
        self._waiting.append((job if owner is None else owner, job))

    def drop(self, job: Job) -> None:
        """End a job where it stands, unless it has ended."""
        self._waiting = [entry for entry in self._waiting if entry[1] is not job]
        self._dropped |= {track for track, (_, live) in self._live.items() if live is job}

    @property
    def going(self) -> bool:
        """Whether there are jobs."""
        return bool(self._waiting or self._live)

    @property
    def busy(self) -> int:
        """Slots that have a job."""
        return len(self._live)

    @property
    def free(self) -> int:
        """Slots that no job has or waits for."""
        return max(self._slots.count - len(self._live) + len(self._dropped) - len(self._waiting), 0)

    def advance(self) -> list[tuple[Job, int]]:
        """Exchange once with the device: (job, token) as they came, maybe none."""
        came: list[tuple[Job, int]] = []
        if self._stepper.between:
            self._remove(self._dropped)
            while self._waiting and (slot := self._stepper.free()) is not None:
                came += self._enter(slot)
        if self._stepper.tracks:
            for track, token in self._stepper.advance():
                if track in self._live and track not in self._dropped:
                    job = self._live[track][1]
                    job.tokens.append(token)
                    came.append((job, token))
        if self._stepper.between:
            self._device.position = self._stepper.position
            ended = {track for track in self._live if track.left == 0}
            for track in ended:
                job = self._live[track][1]
                if job.keep:
                    job.state = self._device.slot_state(track.slot, job.tokens[-1]).pack()
            self._remove(ended)
        return came

    def close(self) -> None:
        """End what runs; the batch is not to be used any more."""
        if not self._stepper.between:
            self._device.position += WINDOW  # behind whatever the device still runs
            self._slots.forget()
            self._device.stop()

    def _changed(self) -> bool:
        return bool(self._dropped) or (bool(self._waiting) and self._stepper.free() is not None)

    def _remove(self, tracks: set[Track]) -> None:
        for track in tracks:
            self._live.pop(track, None)
        self._stepper.tracks = [track for track in self._stepper.tracks if track not in tracks]
        self._dropped -= tracks

    def _next(self) -> Job:
        """Whose turn it is."""
        owners = [owner for owner, _ in self._live.values()]
        place = min(range(len(self._waiting)), key=lambda number: owners.count(self._waiting[number][0]))
        self._owner, job = self._waiting.pop(place)
        return job

    def _enter(self, slot: int) -> Iterator[tuple[Job, int]]:
        """Put the next job on a slot; tokens that its state brings along."""
        job, device = self._next(), self._device
        feed, fresh = [*job.prompt, *job.tokens], True
        if job.state is not None:
            saved = device.put_state(slot, job.state)
            fresh = saved.fresh
            if not job.prompt:
                if saved.last is None:
                    raise TritapeError("a sequence must begin with a token, not with none; give the job a prompt")
                feed = [saved.last, *job.tokens[len(saved.ahead) :]]
                for token in saved.ahead[len(job.tokens) : job.count]:
                    job.tokens.append(token)
                    yield job, token
                if job.count <= len(job.tokens):
                    if job.keep:
                        job.state = device.slot_state(slot, saved.last, saved.ahead[job.count :]).pack()
                    return
        device.check_tokens(feed)
        inverse, stream = device.inverse_temperature(job.temperature), Stream(job.seed, device.vocabulary)
        guesser = None if device.draft is None else device.draft.begin(inverse, stream.behind(0))
        track = Track(slot, feed, job.count - len(job.tokens), inverse, stream, fresh=fresh, guesser=guesser)
        self._live[track] = self._owner, job
        self._stepper.tracks.append(track)
