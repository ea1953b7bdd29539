"""The thread that owns the device, and the bounded queue in front of it."""

from __future__ import annotations

import asyncio
import logging
import threading
from collections import deque
from collections.abc import AsyncIterator, Callable, Generator
from typing import Any, Generic, TypeVar

from tritape.base.errors import TritapeError
from tritape.host.server.device import ServedDevice
from tritape.host.server.errors import Refused
from tritape.host.server.metrics import Metrics

T = TypeVar("T")
Work = Callable[[ServedDevice], Generator[T]]
"""Something done on the device. It yields at least every `CHUNK` tokens, so that it can be ended in between."""
_log = logging.getLogger(__name__)


class _End:
    def __init__(self, error: BaseException | None) -> None:
        self.error = error


class Cancelled(Exception):
    """The client gave up; nobody reads the answer."""


class Ticket(Generic[T]):
    """One work in the queue or under way: an asynchronous iterator over what it yields, which raises what it raised.

    Made on the event loop that reads it; the worker's thread hands items over.
    """

    def __init__(self, work: Work[T], worker: Worker) -> None:
        self.work, self._worker = work, worker
        self.cancelled = False
        self._loop = asyncio.get_running_loop()
        self._items: asyncio.Queue[T | _End] = asyncio.Queue()

    def put(self, item: T | _End) -> None:
        """Hand an item to the event loop; called by the worker."""
        try:
            self._loop.call_soon_threadsafe(self._items.put_nowait, item)
        except RuntimeError:  # the loop has ended, and the client with it
            self.cancelled = True

    def cancel(self) -> None:
        """Leave the queue, or end what is under way before its next item. Harmless at the end."""
        self._worker.cancel(self)

    async def __aiter__(self) -> AsyncIterator[T]:
        while True:
            item = await self._items.get()
            if isinstance(item, _End):
                if item.error is not None:
                    raise item.error
                return
            yield item


class Worker:
    """Runs works one after the other in the order in which they came.

    `submit` raises `Refused` (429) when `most_waiting` of them wait. A TritapeError from the device becomes `Refused` (503);
    if the device does not answer afterwards either, `eject` is called: it is gone. A work during which a CRC-32 of the tape
    was wrong ends with 503 too: its text is not the model's.
    """

    def __init__(
        self, device: ServedDevice, metrics: Metrics, most_waiting: int, eject: Callable[[], None] | None
    ) -> None:
        self._device, self._metrics, self._most, self._eject = device, metrics, most_waiting, eject
        self._waiting: deque[Ticket[Any]] = deque()
        self._changed = threading.Condition()
        self._closed = False
        self._current: Ticket[Any] | None = None
        self._crc_errors: int | None = None
        self._thread = threading.Thread(target=self._run, name="tritape device", daemon=True)

    def start(self) -> None:
        """Begin to work."""
        self._thread.start()

    def close(self) -> None:
        """End what is under way, drop what waits, and let go of the device."""
        with self._changed:
            self._closed = True
            for ticket in [*self._waiting, *([self._current] if self._current else [])]:
                ticket.cancelled = True
            self._changed.notify()
        self._thread.join(30)

    def submit(self, work: Work[T]) -> Ticket[T]:
        """Queue a work. Call it on the event loop."""
        ticket = Ticket(work, self)
        with self._changed:
            if len(self._waiting) >= self._most:
                raise Refused(429, f"queue must have less than {self._most} requests, not be full; try again later")
            self._waiting.append(ticket)
            self._metrics.queue.set(len(self._waiting))
            self._changed.notify()
        return ticket

    def cancel(self, ticket: Ticket[Any]) -> None:
        """`Ticket.cancel`."""
        with self._changed:
            ticket.cancelled = True
            if ticket in self._waiting:
                self._waiting.remove(ticket)
                self._metrics.queue.set(len(self._waiting))
                ticket.put(_End(Cancelled()))

    def _run(self) -> None:
        while True:
            with self._changed:
                while not self._waiting and not self._closed:
                    self._changed.wait()
                if not self._waiting:
                    return
                ticket = self._current = self._waiting.popleft()
                self._metrics.queue.set(len(self._waiting))
            self._metrics.busy.set(1)
            error = self._try(ticket)
            self._metrics.busy.set(0)
            ticket.put(_End(error))
            self._current = None

    def _try(self, ticket: Ticket[Any]) -> BaseException | None:
        """Do a work; why it failed."""
        pieces = None
        try:
            if self._crc_errors is None:
                self._crc_errors = self._device.counters()["crc_errors"]
            if ticket.cancelled:
                return Cancelled()
            pieces = ticket.work(self._device)
            for piece in pieces:
                if ticket.cancelled:
                    break
                ticket.put(piece)
            pieces.close()
            self._check_crc()
        except Refused as error:
            return error
        except TritapeError as error:
            return self._fault(error)
        except Exception as error:
            _log.exception("work failed")
            return error
        return Cancelled() if ticket.cancelled else None

    def _check_crc(self) -> None:
        counters, before = self._device.counters(), self._crc_errors
        self._crc_errors = counters["crc_errors"]
        wrong = self._crc_errors - (before or 0)
        if wrong > 0:
            self._metrics.crc_errors.inc(wrong)
            raise Refused(
                503,
                f"CRC-32 of every section must be right, not wrong {wrong} times (first: section "
                f"{counters.get('first_bad_section')}); load the tape again, or lower the clock",
            )

    def _fault(self, error: TritapeError) -> Refused:
        """Count what the device refused, and find out whether it is still there."""
        self._metrics.faults.inc()
        try:
            self._check_crc()
        except Refused:
            pass
        except TritapeError:
            if self._eject is not None:
                self._eject()
        return Refused(503, str(error))
