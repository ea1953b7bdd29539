"""The registers of an accelerator on the processor's own bus as a transport."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Protocol

import numpy as np

from tritape.base.errors import TritapeError
from tritape.hw.link.axi_lite import MAGIC, PAGE_BITS, Register

POLL_S = 50e-6
"""Pause between two looks at STATUS while there is nothing to read or no room to write."""
FULL_S = 2.0
"""After so long without room the device is given up."""


class Registers(Protocol):
    """32-bit registers by byte address (`tritape.hw.link.axi_lite.Register`)."""

    def read(self, address: int) -> int:
        """One read."""

    def write(self, address: int, value: int) -> None:
        """One write."""


class RegisterTransport:
    """`Transport` over the registers of an `AXILiteLink`.

    `bases`: physical address of each memory port, multiples of 4096; they are written if the registers hold others. `name` is
    for messages. `pause` waits a little. Raises TritapeError when the registers are not tritape's, when the number of bases
    is not that of the ports, and when the device takes no bytes for `FULL_S`.
    """

    def __init__(
        self,
        registers: Registers,
        bases: list[int],
        name: str = "registers",
        pause: Callable[[], None] = lambda: time.sleep(POLL_S),
    ) -> None:
        self._registers, self._name, self._pause = registers, name, pause
        require_tritape(registers, name)
        ports, _, _ = shape(registers)
        if len(bases) != ports or any(base % (1 << PAGE_BITS) for base in bases):
            raise TritapeError(
                f"{name}: bases must be {ports} multiples of {1 << PAGE_BITS}, not {bases!r}; give others"
            )
        for port, base in enumerate(bases):
            for address, half in (
                (Register.BASE + 8 * port, base & 0xFFFFFFFF),
                (Register.BASE + 8 * port + 4, base >> 32),
            ):
                if registers.read(address) != half:
                    registers.write(address, half)

    def read(self, timeout_s: float) -> bytes:
        """See `Transport`."""
        end = time.monotonic() + timeout_s
        while not (waiting := self._registers.read(Register.STATUS) & 0xFFFF):
            if time.monotonic() >= end:
                return b""
            self._pause()
        out = bytearray()
        for _ in range(waiting // 4):
            out += self._registers.read(Register.WORD).to_bytes(4, "little")
        for _ in range(waiting % 4):
            out.append(self._registers.read(Register.BYTE))
        return bytes(out)

    def write(self, data: bytes) -> None:
        """See `Transport`."""
        at, end = 0, time.monotonic() + FULL_S
        while at < len(data):
            part = data[at : at + (self._registers.read(Register.STATUS) >> 16)]
            if not part:
                if time.monotonic() >= end:
                    raise TritapeError(
                        f"{self._name}: device must take bytes, not be full for {FULL_S:g} s; load it again"
                    )
                self._pause()
                continue
            whole = len(part) // 4 * 4
            for start in range(0, whole, 4):
                self._registers.write(Register.WORD, int.from_bytes(part[start : start + 4], "little"))
            for byte in part[whole:]:
                self._registers.write(Register.BYTE, byte)
            at, end = at + len(part), time.monotonic() + FULL_S

    def discard(self) -> None:
        """See `Transport`."""
        while self.read(0.0):
            pass

    def close(self) -> None:
        """See `Transport`."""


def require_tritape(registers: Registers, name: str) -> None:
    """Raise TritapeError unless register ID is that of an `AXILiteLink`."""
    found = registers.read(Register.ID)
    if found != MAGIC:
        raise TritapeError(
            f"{name}: register ID must read {MAGIC:#010x}, not {found:#010x}; load tritape's bitstream, or check the address"
        )


def shape(registers: Registers) -> tuple[int, int, int]:
    """Of the memory: ports, bytes of a line of each, and bytes that each must have at its base."""
    value = registers.read(Register.SHAPE)
    return value & 0xFF, value >> 8 & 0xFFFF, registers.read(Register.SIZE) << PAGE_BITS


def stripes(image: bytes, ports: int, line_bytes: int) -> list[bytes]:
    """What lies at the base of each port for a tape's image: `line_bytes` to each port in turn (docs/memory.md)."""
    round_bytes = ports * line_bytes
    lines = np.frombuffer(image.ljust(-(-len(image) // round_bytes) * round_bytes, b"\0"), np.uint8)
    return [part.tobytes() for part in lines.reshape(-1, ports, line_bytes).swapaxes(0, 1)]
