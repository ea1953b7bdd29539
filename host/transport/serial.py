"""A serial port, through pyserial."""

from __future__ import annotations

import contextlib
import errno
import os
import sys
from collections.abc import Iterator

import serial

from tritape.base.errors import TritapeError

DEFAULT_BAUD = 1_000_000


class SerialTransport:
    """`Transport` over a serial port, opened for this process alone.

    `port` is a device file, a COM port or a pyserial URL; `baud` in bits a second. Raises TritapeError, with the cure, for a
    port that is missing, busy, not permitted or not a serial port, and when it goes away (a cable that is pulled).
    """

    def __init__(self, port: str, baud: int = DEFAULT_BAUD) -> None:
        self._name = port
        try:
            self._port = serial.serial_for_url(port, baudrate=baud, timeout=0, write_timeout=2, do_not_open=True)
            if os.name == "posix" and "://" not in port:
                self._port.exclusive = True
            self._port.open()
        except (OSError, ValueError) as error:
            raise TritapeError(_cure(port, error)) from error
        if sys.platform == "linux":
            with contextlib.suppress(Exception):  # a USB bridge may otherwise keep bytes for 16 ms
                self._port.set_low_latency_mode(True)
        self.discard()

    def read(self, timeout_s: float) -> bytes:
        """See `Transport`."""
        with self._lost():
            self._port.timeout = timeout_s
            first = self._port.read(1)
            return bytes(first + self._port.read(self._port.in_waiting)) if first else b""

    def write(self, data: bytes) -> None:
        """See `Transport`."""
        with self._lost():
            self._port.write(data)

    def discard(self) -> None:
        """See `Transport`."""
        with self._lost():
            self._port.reset_input_buffer()

    def close(self) -> None:
        """See `Transport`."""
        with contextlib.suppress(OSError):
            self._port.close()

    @contextlib.contextmanager
    def _lost(self) -> Iterator[None]:
        try:
            yield
        except (
            OSError,
            TypeError,
            AttributeError,
        ) as error:  # pyserial's own, and what it lets through once a port is gone
            raise TritapeError(
                f"{self._name}: port must stay connected, not go away ({error}); check the cable and open it again"
            ) from error


def _cure(port: str, error: Exception) -> str:
    """One line for an open that failed."""
    code = getattr(error, "errno", None)
    text = str(error)
    if code == errno.ENOENT or "FileNotFoundError" in text:
        return f"{port}: port must exist, not be missing; plug the board in, or list the names: python -m serial.tools.list_ports"
    if code in (errno.EACCES, errno.EPERM) or "PermissionError" in text:
        return f"{port}: port must be open to you, not forbidden; join the group that owns it (often dialout) and log in again"
    if code in (errno.EBUSY, errno.EAGAIN) or "lock" in text:
        return f"{port}: port must be free, not used by another program; close that one"
    return f"{port}: port must be a serial port, not something else ({error}); give the board's"
