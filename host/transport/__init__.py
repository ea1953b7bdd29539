"""Ways to move bytes to a device and back."""

from __future__ import annotations

from typing import Protocol, runtime_checkable

UIO = "uio:"
"""How the port of fabric beside this processor begins: `uio:NAME`."""


class Transport(Protocol):
    """A pipe of bytes, which may lose and damage some. Methods raise TritapeError when the pipe is gone."""

    def read(self, timeout_s: float) -> bytes:
        """What has come, at least one byte; nothing after `timeout_s` without any."""

    def write(self, data: bytes) -> None:
        """Send all of `data`."""

    def discard(self) -> None:
        """Forget what has come and not been read."""

    def close(self) -> None:
        """Give the pipe back. May be called twice."""


@runtime_checkable
class PlacingTransport(Transport, Protocol):
    """A transport that reaches the device's memory by another way than the pipe."""

    def place(self, image: bytes) -> None:
        """Put a tape's image into the memory."""
