"""The thread that owns the device, and the bounded queue in front of it."""

from __future__ import annotations

import logging
import threading
from collections import deque
from collections.abc import Callable, Generator
from typing import Any, TypeVar, cast

from tritape.base.errors import TritapeError
from tritape.host.chat import CHUNK
from tritape.host.jobs import Batch
from tritape.host.sequence_device import SequenceDevice
from tritape.host.server.device import ServedDevice
from tritape.host.server.errors import Refused
from tritape.host.server.metrics import Metrics
from tritape.host.server.ticket import Cancelled, End, Ticket, Work

T = TypeVar("T")
_NO_MORE = object()
_log = logging.getLogger(__name__)


class Worker:
    """Runs works in the order in which they came: one after the other, or, where the device has slots, as many of those that
    share it together.

    `submit` raises `Refused` (429) when `most_waiting` of them wait. A TritapeError from the device becomes `Refused` (503),
    and `recover` is to load the tape again; if the device does not answer, or that fails, `eject` is told why: it is gone. A
    work during which a CRC-32 of the tape was wrong ends with 503 too: its text is not the model's.
    """

    def __init__(
        self,
        device: ServedDevice,
        metrics: Metrics,
        most_waiting: int,
        recover: Callable[[], None] | None,
        eject: Callable[[TritapeError], None] | None,
    ) -> None:
        self._device, self._metrics, self._most = device, metrics, most_waiting
        self._recover, self._eject = recover, eject
        self._waiting: deque[Ticket[Any]] = deque()
        self._changed = threading.Condition()
        self._closed = False
        self._live: dict[Ticket[Any], Generator[Any]] = {}
        self._crc_errors: int | None = None
        self._thread = threading.Thread(target=self._run, name="tritape device", daemon=True)

    def start(self) -> None:
        """Begin to work."""
        self._thread.start()

    def close(self) -> None:
        """End what is under way, drop what waits, and let go of the device."""
        with self._changed:
            self._closed = True
            for ticket in [*self._waiting, *self._live]:
                ticket.cancelled = True
            self._changed.notify()
        self._thread.join(30)

    def submit(self, work: Work[T], *, shares: bool = False) -> Ticket[T]:
        """Queue a work; `shares` says whether it can do with a batch. Call it on the event loop."""
        ticket = Ticket(work, self, shares)
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
                ticket.put(End(Cancelled()))

    def _run(self) -> None:
        while True:
            with self._changed:
                while not self._waiting and not self._closed:
                    self._changed.wait()
                if not self._waiting:
                    return
                shares = self._waiting[0].shares
            slots = self._device.slots
            if shares and slots is not None:
                self._share(Batch(cast(SequenceDevice, self._device), slots, CHUNK), slots.count)
            elif ticket := self._begin(None):
                while ticket in self._live:
                    self._advance(ticket)

    def _share(self, batch: Batch, slots: int) -> None:
        """Run works together, and those that come meanwhile, until there are none or the next one wants the device for itself."""
        tokens = batch.run()
        while True:
            while len(self._live) < slots and self._begin(batch):
                pass
            for ticket in list(self._live):
                while ticket in self._live and self._advance(ticket) is not None:
                    pass
            if not self._live:
                break
            self._metrics.busy.set(batch.busy)
            try:
                if next(tokens, None) is None:
                    tokens = batch.run()  # for jobs that came when the last had ended
            except TritapeError as error:
                refused = self._fault(error)
                for ticket in list(self._live):
                    self._end(ticket, refused)
        tokens.close()

    def _begin(self, batch: Batch | None) -> Ticket[Any] | None:
        """Take the next work from the queue, with a batch only one that shares; None where there is none."""
        with self._changed:
            if not self._waiting or (batch is not None and not self._waiting[0].shares):
                return None
            ticket = self._waiting.popleft()
            self._live[ticket] = ticket.work(self._device, batch)
            self._metrics.queue.set(len(self._waiting))
        self._metrics.busy.set(len(self._live))
        try:
            self._read_crc()
        except TritapeError as error:
            self._end(ticket, self._fault(error))
        ticket.crc_errors = self._crc_errors or 0
        return ticket

    def _advance(self, ticket: Ticket[Any]) -> object:
        """Do a piece of a work, and end it after the last one; the piece."""
        try:
            if ticket.cancelled:
                self._live[ticket].close()
                self._read_crc()
                self._end(ticket, Cancelled())
                return None
            piece = next(self._live[ticket], _NO_MORE)
            if piece is _NO_MORE:
                self._check_crc(ticket)
                self._end(ticket, None)
                return None
        except Refused as error:
            self._end(ticket, error)
        except TritapeError as error:
            self._end(ticket, self._fault(error))
        except Exception as error:
            _log.exception("work failed")
            self._end(ticket, error)
        else:
            if piece is not None:
                ticket.put(piece)
            return piece
        return None

    def _end(self, ticket: Ticket[Any], error: BaseException | None) -> None:
        """A work has ended, or cannot go on."""
        with self._changed:
            pieces = self._live.pop(ticket)
        pieces.close()
        self._metrics.busy.set(len(self._live))
        ticket.put(End(error))

    def _read_crc(self) -> dict[str, int]:
        counters, before = self._device.counters(), self._crc_errors
        self._crc_errors = counters["crc_errors"]
        if before is not None and self._crc_errors > before:
            self._metrics.crc_errors.inc(self._crc_errors - before)
        return counters

    def _check_crc(self, ticket: Ticket[Any]) -> None:
        counters = self._read_crc()
        wrong = counters["crc_errors"] - ticket.crc_errors
        if wrong > 0:
            raise TritapeError(
                f"CRC-32 of every section must be right, not wrong {wrong} times (first: section "
                f"{counters.get('first_bad_section')}); load the tape again, or lower the clock",
            )

    def _fault(self, error: TritapeError) -> Refused:
        """Count what the device refused, and load its tape again, if it is still there."""
        self._metrics.faults.inc()
        try:
            self._read_crc()
            if self._recover is not None:
                self._recover()
                self._crc_errors = None  # counted from the beginning
        except TritapeError as gone:
            if self._eject is not None:
                self._eject(gone)
        return Refused(503, str(error))
