"""The bounded queue in front of one or several devices, and who of them takes from it."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Sequence
from typing import Any, TypeVar

from tritape.base.errors import TritapeError
from tritape.host.server.device import Backend
from tritape.host.server.errors import Refused
from tritape.host.server.metrics import Metrics
from tritape.host.server.ticket import Cancelled, Ticket, Work
from tritape.host.server.worker import Worker

T = TypeVar("T")


class Pool:
    """Works wait here in the order in which they came, and each goes to the device that has the least to do.

    `submit` raises `Refused` (429) when `most_waiting` of them wait. A device that is lost gives back what it had under way:
    that goes on elsewhere, before all others. The last one ends its works with 503.
    """

    def __init__(self, backends: Sequence[Backend], metrics: Metrics, most_waiting: int) -> None:
        self._metrics, self._most = metrics, most_waiting
        self._waiting: deque[Ticket[Any]] = deque()
        self._changed = threading.Condition()
        self._closed = False
        self._workers = [Worker(backend, self, metrics) for backend in backends]
        metrics.devices.set(len(self._workers))

    @property
    def devices(self) -> int:
        """Those that are not lost."""
        return sum(not worker.lost for worker in self._workers)

    def start(self) -> None:
        """Begin to work."""
        for worker in self._workers:
            worker.start()

    def close(self) -> None:
        """End what is under way, drop what waits, and let go of the devices."""
        with self._changed:
            self._closed = True
            for ticket in self._waiting:
                ticket.cancelled = True
            for worker in self._workers:
                worker.cancel()
            self._changed.notify_all()
        for worker in self._workers:
            worker.join(30)

    def submit(self, work: Work[T], *, shares: bool = False) -> Ticket[T]:
        """Queue a work; `shares` says whether it can do with a seat. Call it on the event loop."""
        ticket = Ticket(work, self, shares)
        with self._changed:
            if len(self._waiting) >= self._most:
                raise Refused(429, f"queue must have less than {self._most} requests, not be full; try again later")
            self._waiting.append(ticket)
            self._told()
        return ticket

    def cancel(self, ticket: Ticket[Any]) -> None:
        """`Ticket.cancel`."""
        with self._changed:
            ticket.cancelled = True
            if ticket in self._waiting:
                self._waiting.remove(ticket)
                self._told()
                ticket.end(Cancelled())

    def wait(self, worker: Worker) -> bool | None:
        """Until there is a work for an idle worker: whether it shares; None at the end."""
        with self._changed:
            while not self._closed and not self._for(worker):
                self._changed.wait()
            return None if not self._waiting else self._waiting[0].shares

    def take(self, worker: Worker, shares: bool) -> Ticket[Any] | None:
        """The next work, for a worker that runs it from now on; with `shares` only one that does. None: not now."""
        with self._changed:
            if not self._for(worker) or (shares and not self._waiting[0].shares):
                return None
            ticket = self._waiting.popleft()
            worker.live.append(ticket)
            self._told()
            return ticket

    def lost(self, worker: Worker, error: TritapeError) -> list[Ticket[Any]]:
        """A worker's device is gone: its works are taken over, or given back if there is no other device."""
        with self._changed:
            if not any(other is not worker and not other.lost for other in self._workers):
                return worker.live
            worker.lost = True
            self._metrics.devices.set(self.devices)
            self._waiting.extendleft(reversed(worker.live))
            worker.live = []
            self._told()
            return []

    def busy(self) -> None:
        """The slots at work have changed."""
        self._metrics.busy.set(sum(worker.busy for worker in self._workers))

    def _for(self, worker: Worker) -> bool:
        """Whether the next work is for this worker, and no other with room has less to do."""
        mine = len(worker.live)
        return bool(self._waiting) and not any(
            other.room and len(other.live) < mine for other in self._workers if not other.lost
        )

    def _told(self) -> None:
        self._metrics.queue.set(len(self._waiting))
        self._changed.notify_all()
