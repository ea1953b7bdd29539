"""The accelerator of the fault campaign as a transport for `host.Device`, with one fault at a time armed in it."""

from __future__ import annotations

import struct
from collections.abc import Callable
from dataclasses import dataclass
from enum import IntEnum
from pathlib import Path
from types import TracebackType

import numpy as np

from tritape.hw.config import Config
from tritape.model.arith import Ints
from tritape.sim.fast.build import build_model
from tritape.sim.fast.runner import Process
from tritape.sim.faults.top import verilog

MAIN = Path(__file__).parent / "main.cpp"
CYCLES_A_SECOND = 200_000
"""Of simulated time: how long the host's waits are in cycles. Nothing on a board is that slow; a simulated second is short."""


NEVER = 1 << 31


class Kind(IntEnum):
    """What the simulator can do wrong; the numbers are those of `main.cpp`, `when` counts what the comment says."""

    NONE = 0
    TAPE = 1  # at once: byte a, bit b of the image
    DATA = 2  # beat: bit a of what the bus carries
    SHORTER = 3  # burst: a beats are left out, RLAST with the last that comes
    LONGER = 4  # burst: a beats more
    EARLY = 5  # burst: RLAST with the first beat too
    LOST = 6  # burst: no RLAST
    RESPONSE = 7  # burst: response a with beat b
    STRAY = 8  # cycle: a beat that nothing asked for
    DELAY = 9  # burst: a cycles late
    SILENT = 10  # cycle: the bus takes and gives nothing for a cycles
    WRITE_RESPONSE = 11  # write: answered with a, and not stored
    STRAY_ANSWER = 12  # cycle: a write response that nothing asked for
    LATE_ANSWER = 13  # write: answered a cycles late, `NEVER`: not at all
    ADDRESS = 14  # burst: bit a of its address
    POKE = 15  # cycle: memory a, address b, bit c
    RESET = 16  # cycle: registers and block RAM as after configuration
    BYTES = 17  # cycle: another host sends bytes
    LOST_BURST = 18  # burst: never answered


@dataclass(frozen=True)
class Armed:
    """A fault for the simulator."""

    kind: Kind
    when: int = 0
    a: int = 0
    b: int = 0
    c: int = 0
    data: bytes = b""


@dataclass(frozen=True)
class Counts:
    """`struck`: cycle in which the armed fault struck, 0 if it has not. The others: what there was since it was armed."""

    cycle: int
    struck: int
    cycles: int
    beats: int
    bursts: int
    writes: int


class FaultySimulation:
    """A `Transport` whose device is `FaultyTop` and whose memory does one thing wrong on request. Built once and cached.

    `cycle`: clock cycles since the start, behind the last `read`. `memories`: (name, words, bits) of every memory inside.
    """

    def __init__(self, config: Config, progress: Callable[[str], None] | None = None) -> None:
        self.config = config
        defines = {"BATCH": config.batch}
        self._process = Process(build_model(verilog(config), "top", MAIN, defines=defines, progress=progress))
        self._outgoing = b""
        self.cycle = 0
        lines = self._process.call(ord("Q"))[1].decode().splitlines()
        self.memories = [(name, int(depth), int(bits)) for name, depth, bits in (line.split() for line in lines)]

    def __enter__(self) -> FaultySimulation:
        return self

    def __exit__(self, kind: type[BaseException] | None, value: BaseException | None, tb: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        """End the simulation."""
        self._process.close()

    def write(self, data: bytes) -> None:
        """Queue bytes for the host link; they go with the next `read`."""
        self._outgoing += data

    def read(self, timeout_s: float) -> bytes:
        """Run the clock until a whole frame came, or nothing moved for the time; what came."""
        patience = struct.pack("<I", max(1, round(timeout_s * CYCLES_A_SECOND)))
        _, reply = self._process.call(ord("X"), patience + self._outgoing)
        self._outgoing = b""
        self.cycle = struct.unpack_from("<Q", reply)[0]
        return reply[8:]

    def discard(self) -> None:
        """Nothing: what came has been read."""

    def set_memory(self, data: bytes) -> None:
        """Put the memory's contents in place without the link, and end the fault: what was late comes."""
        self._process.call(ord("M"), data)
        self._outgoing = b""

    def arm(self, fault: Armed) -> None:
        """Begin to count towards a fault."""
        head = struct.pack("<IIIII", fault.kind, fault.when, fault.a, fault.b, fault.c)
        self._process.call(ord("F"), head + fault.data)

    def counts(self) -> Counts:
        """What happened since `arm`."""
        return Counts(*struct.unpack("<6Q", self._process.call(ord("S"))[1]))

    def configure(self) -> None:
        """A new device, as after power-up; the memory outside keeps its contents."""
        self._process.call(ord("N"))

    def clear_logits(self) -> None:
        """Forget the logits seen so far."""
        self._process.call(ord("C"))

    def logits(self, slot: int = 0) -> Ints:
        """All logits of a slot since `clear_logits`, token after token."""
        return np.frombuffer(self._process.call(ord("P"), bytes([slot]))[1], "<i4").astype(np.int64)
