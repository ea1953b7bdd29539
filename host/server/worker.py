"""The thread that owns a device and runs works on it."""

from __future__ import annotations

import logging
import threading
from typing import Any, Protocol, cast

from tritape.base.errors import TritapeError
from tritape.host.chat import CHUNK
from tritape.host.jobs import Batch
from tritape.host.sequence_device import SequenceDevice
from tritape.host.server.device import Backend
from tritape.host.server.errors import Refused
from tritape.host.server.metrics import Metrics
from tritape.host.server.ticket import Cancelled, Ticket

_NO_MORE = object()
_log = logging.getLogger(__name__)


class Source(Protocol):
    """Where works come from: `Pool`."""

    def wait(self, worker: Worker) -> bool | None:
        """Until there is a work for an idle worker: whether it shares; None at the end."""

    def take(self, worker: Worker, shares: bool) -> Ticket[Any] | None:
        """The next work, into `worker.live`."""

    def lost(self, worker: Worker, error: TritapeError) -> list[Ticket[Any]]:
        """The device is gone; the works that no other device takes over."""

    def busy(self) -> None:
        """`Worker.busy` has changed."""


class Worker:
    """Runs works on its device: one after the other, or, where it has slots, as many of those that share it together.

    A TritapeError from the device becomes `Refused` (503), and its `recover` is to load the tape again; if the device does not
    answer, or that fails, it is lost: its works go on elsewhere, and `eject` is told why. A work during which a CRC-32 of the
    tape was wrong ends with 503 too: its text is not the model's. `live`: the works under way, which the source changes too.
    """

    def __init__(self, backend: Backend, source: Source, metrics: Metrics) -> None:
        self._backend, self._device = backend, backend.device
        self._source, self._metrics = source, metrics
        self.live: list[Ticket[Any]] = []
        self.busy = 0
        self.lost = False
        self._alone = self._broken = False
        self._crc_errors: int | None = None
        self._thread = threading.Thread(target=self._run, name="tritape device", daemon=True)

    @property
    def room(self) -> bool:
        """Whether it could take another work that shares."""
        slots = self._device.slots
        return not self._alone and len(self.live) < (1 if slots is None else slots.count)

    def start(self) -> None:
        """Begin to work."""
        self._thread.start()

    def join(self, seconds: float) -> None:
        """Wait for the thread's end."""
        self._thread.join(seconds)

    def cancel(self) -> None:
        """End what is under way."""
        for ticket in self.live:
            ticket.cancelled = True

    def _run(self) -> None:
        while not self.lost and (shares := self._source.wait(self)) is not None:
            slots = self._device.slots
            if shares and slots is not None:
                self._share(Batch(cast(SequenceDevice, self._device), slots, CHUNK), slots.count)
                continue
            self._alone, self._broken = True, False
            if self._begin(None):
                self._busy(1)
                while self.live:
                    self._advance(self.live[0])
            self._alone = False
            self._busy(0)

    def _share(self, batch: Batch, slots: int) -> None:
        """Run works together, and those that come meanwhile, until there are none or the next one wants the device for itself."""
        self._device.reset()
        self._broken = False
        while not self._broken:
            while len(self.live) < slots and self._begin(batch):
                pass
            for ticket in list(self.live):
                while ticket in self.live and self._advance(ticket) is not None:
                    pass
            if self._broken or (len(self.live) < slots and self._begin(batch)):
                continue  # with another in the place of one that has ended
            if not self.live:
                break
            try:
                batch.advance()
            except TritapeError as error:
                self._failed(error)
            self._busy(batch.busy)
        if not self._broken:
            batch.close()
        self._busy(0)

    def _busy(self, slots: int) -> None:
        if self.busy != slots:
            self.busy = slots
            self._source.busy()

    def _begin(self, batch: Batch | None) -> bool:
        """Take the next work, with a batch only one that shares; whether there was one."""
        ticket = self._source.take(self, batch is not None)
        if ticket is None:
            return False
        try:
            self._read_crc()
            ticket.crc_errors = self._crc_errors or 0
            ticket.begin(self._device, batch)
        except TritapeError as error:
            self._failed(error)
        return not self._broken

    def _advance(self, ticket: Ticket[Any]) -> object:
        """Do a piece of a work, and end it after the last one; the piece."""
        assert ticket.pieces is not None
        try:
            if ticket.cancelled:
                ticket.pieces.close()
                self._read_crc()
                self._end(ticket, Cancelled())
                return None
            piece = next(ticket.pieces, _NO_MORE)
            if piece is _NO_MORE:
                self._check_crc(ticket)
                self._end(ticket, None)
                return None
        except Refused as error:
            self._end(ticket, error)
        except TritapeError as error:
            self._failed(error)
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
        self.live.remove(ticket)
        ticket.end(error)

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

    def _failed(self, error: TritapeError) -> None:
        """The device refused: load its tape again, if it is still there, and end the works, or have them go on elsewhere."""
        self._metrics.faults.inc()
        self._broken = True
        over = list(self.live)
        try:
            self._read_crc()
            if self._backend.recover is not None:
                self._backend.recover()
                self._crc_errors = None  # counted from the beginning
        except TritapeError as gone:
            over = list(self._source.lost(self, gone))
            if self._backend.eject is not None:
                self._backend.eject(gone)
        for ticket in over:
            self._end(ticket, Refused(503, str(error)))
