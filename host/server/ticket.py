"""A piece of work for the device, as the event loop sees it: its items as they come, and its end."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Generator
from typing import Any, Generic, Protocol, TypeVar

from tritape.host.jobs import Batch
from tritape.host.server.device import ServedDevice

T = TypeVar("T")
Work = Callable[[ServedDevice, Batch | None], Generator[T | None]]
"""Something done on the device. It yields at least every `CHUNK` tokens, so that it can be ended in between.

A work that shares the device gets a batch, adds jobs to it, and yields None when it waits for their tokens."""


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

    Made on the event loop that reads it; the worker's thread hands items over.
    """

    def __init__(self, work: Work[T], queue: Queue, shares: bool) -> None:
        self.work, self.shares, self._queue = work, shares, queue
        self.cancelled = False
        self.crc_errors = 0  # at its beginning
        self._loop = asyncio.get_running_loop()
        self._items: asyncio.Queue[T | End] = asyncio.Queue()

    def put(self, item: T | End) -> None:
        """Hand an item to the event loop; called by the worker."""
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
