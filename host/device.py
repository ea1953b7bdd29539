"""One host class for silicon and simulation: it speaks the protocol over any transport that moves bytes."""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator, Sequence
from typing import Protocol

from tritape.host import protocol
from tritape.hw.accelerator import COUNTERS
from tritape.hw.link.host_link import Command
from tritape.model.errors import TritapeError

WRITE_BYTES = 4096
"""Memory is written in pieces of about this size."""


class Transport(Protocol):
    """Moves bytes to and from a device."""

    def write(self, data: bytes) -> None:
        """Send all of `data`."""

    def read(self, count: int) -> bytes:
        """Receive exactly `count` bytes; TritapeError when the device stays silent."""


class Device:
    """A tritape accelerator behind a transport.

    Commands raise TritapeError when the device refuses, with the cure. `identity` is read at once.
    """

    def __init__(self, transport: Transport) -> None:
        self._transport = transport
        self.identity = protocol.Identity.decode(
            self._command(Command.IDENTIFY, protocol.plain(Command.IDENTIFY), protocol.IDENTITY.size)
        )

    def load(self, image: bytes, groups: int, progress: Callable[[int, int], None] | None = None) -> None:
        """Write a tape's memory image and boot it; `progress(bytes done, bytes)`."""
        identity = self.identity
        if groups != identity.groups:
            raise TritapeError(
                f"groups of the tape must be {identity.groups}, not {groups}; pack it with --groups {identity.groups}"
            )
        if len(image) > identity.memory_words * groups:
            raise TritapeError(
                f"tape must have at most {identity.memory_words * groups} bytes, not {len(image)}; "
                "choose a smaller model or a board with more memory"
            )
        piece = WRITE_BYTES // groups * groups
        for start in range(0, len(image), piece):
            data = image[start : start + piece]
            self._command(Command.WRITE, protocol.write(start // groups, data, groups))
            if progress is not None:
                progress(start + len(data), len(image))
        self.boot()

    def boot(self) -> None:
        """Read the tape's header from memory; TritapeError when the bitstream cannot run it."""
        (fault,) = self._command(Command.BOOT, protocol.plain(Command.BOOT), 1)
        if fault:
            raise TritapeError(f"{protocol.FAULTS.get(fault, 'fault code must be known')} (fault {fault})")

    def settings(self, inv_temperature: int, seed: int) -> None:
        """Set the sampler: see `protocol.inverse_temperature`; seed u32."""
        self._command(Command.SETTINGS, protocol.settings(inv_temperature, seed))

    def reset(self) -> None:
        """The next token starts a sequence."""
        self._command(Command.RESET, protocol.plain(Command.RESET))

    def feed(self, tokens: Sequence[int]) -> int:
        """Run tokens; the token that the head chooses after the last."""
        return int(struct.unpack("<H", self._command(Command.FEED, protocol.feed(tokens), 2))[0])

    def generate(self, count: int) -> Iterator[int]:
        """`count` more tokens, each fed back in the fabric; yields them as they come."""
        if count:
            self._transport.write(protocol.generate(count))
        for _ in range(count):
            yield int(struct.unpack("<H", self._reply(Command.GENERATE, 2))[0])

    def counters(self) -> dict[str, int]:
        """The fabric's counters by name (`tritape.hw.accelerator.COUNTERS`)."""
        data = self._command(Command.COUNTERS, protocol.plain(Command.COUNTERS), 1 + 4 * len(COUNTERS))
        return dict(zip(COUNTERS, struct.unpack(f"<{data[0]}I", data[1:]), strict=True))

    def _command(self, command: Command, data: bytes, reply: int = 0) -> bytes:
        self._transport.write(data)
        return self._reply(command, reply)

    def _reply(self, command: Command, count: int) -> bytes:
        (first,) = self._transport.read(1)
        if protocol.is_error(first):
            (code,) = self._transport.read(1)
            raise TritapeError(protocol.ERRORS.get(code, f"error code of the device must be known, not {code}"))
        protocol.check_reply(command, first)
        return self._transport.read(count) if count else b""
