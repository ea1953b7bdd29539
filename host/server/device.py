"""What the server needs of a device."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

from tritape.base.errors import TritapeError
from tritape.host.chat import StatefulDevice
from tritape.host.slots import Slots
from tritape.model.arith import Ints


class ServedDevice(StatefulDevice, Protocol):
    """`tritape.host.device.Device`, as far as the server uses it."""

    @property
    def slots(self) -> Slots | None:
        """Where there are several: such a device is a `SequenceDevice`, and `jobs.Batch` runs them."""

    def settings(self, temperature: float = 0.0, seed: int = 0) -> None:
        """Set the sampler."""

    def feed(self, tokens: Sequence[int]) -> int:
        """Run tokens; the one that is chosen after the last."""

    def logits(self, tokens: Sequence[int]) -> Ints:
        """Run tokens; the integer logits after the last."""

    def counters(self) -> dict[str, int]:
        """The fabric's counters, `crc_errors` among them."""


@dataclass(frozen=True)
class Backend:
    """A device behind a server. `recover` is called after an error and loads the tape again; `eject` is told why the device does
    not answer, or cannot be recovered."""

    device: ServedDevice
    recover: Callable[[], None] | None = None
    eject: Callable[[TritapeError], None] | None = None
