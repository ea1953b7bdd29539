"""A piece of work for the device, as the event loop sees it: its items as they come, and its end."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Generator
from typing import Any, Generic, Protocol, TypeVar

from tritape.host.jobs import Batch, Job
from tritape.host.server.device import ServedDevice

T = TypeVar("T")


class Seat:
    """A work's place in the batch of a device: its jobs share the device with those of others, and move with it to another
    device, where they go on behind the tokens that they have."""

    def __init__(self) -> None:
        self._batch: Batch | None = None
        self._jobs: list[Job] = []

    def sit(self, batch: Batch) -> None:
        """From now on here."""
        self._batch = batch
        for job in self._jobs:
            if len(job.tokens) < job.count:
                batch.add(job, self)

    def add(self, job: Job) -> None:
        """Run a job too."""
        assert self._batch is not None
        self._jobs.append(job)
        self._batch.add(job, self)

    def drop(self, job: Job) -> None:
        """End a job where it stands."""
        assert self._batch is not None
        self._jobs.remove(job)
        self._batch.drop(job)


Work = Callable[[ServedDevice, Seat | None], Generator[T | None]]
"""Something done on the device. It yields at least every `CHUNK` tokens, so that it can be ended in between.

A work that shares the device gets a seat, adds jobs to it, and yields None when it waits for their tokens. One that has the
device for itself may be begun again on another, and must then yield the same."""


class End:
    """The mark behind the last item: why the work failed, or None."""

    def __init__(self, error: BaseException | None) -> None:
        self.error = error


class Cancelled(Exception):
    """The client gave up; nobody reads the answer."""


class Queue(Protocol):
    """Where tickets wait: the worker."""

    def cancel(self, ticket: Ticket[Any]) -> None:
        """`Ticket.cancel`."""


class Ticket(Generic[T]):
    """One work in the queue or under way: an asynchronous iterator over what it yields, which raises what it raised.

    Made on the event loop that reads it; the worker's thread hands items over. `pieces`: the work, where it has begun; `seat`:
    where it shares a device.
    """

    def __init__(self, work: Work[T], queue: Queue, shares: bool) -> None:
        self.work, self.shares, self._queue = work, shares, queue
        self.cancelled = False
        self.crc_errors = 0  # at its beginning
        self.pieces: Generator[T | None] | None = None
        self.seat: Seat | None = None
        self._put = self._skipped = 0  # pieces
        self._loop = asyncio.get_running_loop()
        self._items: asyncio.Queue[T | End] = asyncio.Queue()

    def begin(self, device: ServedDevice, batch: Batch | None) -> None:
        """Begin the work on a device, or go on with it there: from its jobs' tokens in a batch, otherwise again from the
        beginning, without handing over again what was."""
        if self.pieces is not None and self.seat is not None and batch is not None:
            self.seat.sit(batch)
            return
        self.seat = None if batch is None else Seat()
        if self.seat is not None and batch is not None:
            self.seat.sit(batch)
        self._skipped = 0
        self.pieces = self.work(device, self.seat)

    def put(self, piece: T) -> None:
        """Hand a piece to the event loop; called by the worker."""
        self._skipped += 1
        if self._skipped > self._put:
            self._put += 1
            self._hand_over(piece)

    def end(self, error: BaseException | None) -> None:
        """The work has ended, or cannot go on."""
        if self.pieces is not None:
            self.pieces.close()
        self._hand_over(End(error))

    def _hand_over(self, item: T | End) -> None:
        try:
            self._loop.call_soon_threadsafe(self._items.put_nowait, item)
        except RuntimeError:  # the loop has ended, and the client with it
            self.cancelled = True

    def cancel(self) -> None:
        """Leave the queue, or end what is under way before its next item. Harmless at the end."""
        self._queue.cancel(self)

    async def __aiter__(self) -> AsyncIterator[T]:
        while True:
            item = await self._items.get()
            if isinstance(item, End):
                if item.error is not None:
                    raise item.error
                return
            yield item
