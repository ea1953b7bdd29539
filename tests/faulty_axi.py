"""An AXI4 memory that breaks the rules on request, as a test bench of Amaranth's simulator."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

OKAY, SLVERR, DECERR = 0, 2, 3


@dataclass
class Burst:
    """What the memory does with one burst."""

    shorter: int = 0
    """Beats that it leaves out, its RLAST with the last one that comes."""
    longer: int = 0
    """Beats that it adds, its RLAST with the last one."""
    early: bool = False
    """RLAST comes with the first beat too."""
    lost: bool = False
    """RLAST does not come."""
    response: int = OKAY
    """Of the first beat."""


@dataclass
class FaultyAXI:
    """`run` drives one port until the simulation ends: it answers reads from `image`, and writes into it.

    Bursts are counted from 0 over the whole simulation; those in `faults` go wrong. While `silent` nothing is taken or given.
    """

    image: bytearray
    base: int = 0
    latency: int = 3
    faults: dict[int, Burst] = field(default_factory=dict)
    write_responses: dict[int, int] = field(default_factory=dict)
    """Write by its number to its response; others are OKAY."""
    silent: Callable[[], bool] = lambda: False
    stray: int = 0
    """Beats to give that nothing asked for."""
    stray_answers: int = 0
    """Write responses to give that nothing asked for."""
    reads: list[tuple[int, int]] = field(default_factory=list)
    """(offset in the image, beats) of all bursts taken."""
    writes: list[int] = field(default_factory=list)
    """Offset in the image of all beats written."""

    async def run(self, context: Any, axi: Any) -> None:
        lane = len(axi.wstrb)
        beats: deque[tuple[int, int, int, int]] = deque()  # cycle, data, response, last
        answers: deque[int] = deque()
        now, address, data = 0, None, None
        while True:
            silent = self.silent()
            context.set(axi.arready, not silent and len(beats) < 64)
            context.set(axi.awready, not silent and address is None)
            context.set(axi.wready, not silent and data is None)
            if self.stray and not silent:
                self.stray -= 1
                beats.appendleft((now, 0xDEAD, OKAY, 1))
            if self.stray_answers and not silent:
                self.stray_answers -= 1
                answers.append(OKAY)
            given = not silent and bool(beats) and beats[0][0] <= now
            context.set(axi.rvalid, given)
            if given:
                _, word, response, last = beats.popleft()
                context.set(axi.rdata, word)
                context.set(axi.rresp, response)
                context.set(axi.rlast, last)
            answered = not silent and bool(answers)
            context.set(axi.bvalid, answered)
            if answered:
                context.set(axi.bresp, answers.popleft())
            taken = [context.get(valid & ready) for valid, ready in (
                (axi.arvalid, axi.arready), (axi.awvalid, axi.awready), (axi.wvalid, axi.wready))]  # fmt: skip
            if taken[0]:
                beats.extend(self._burst(context.get(axi.araddr) - self.base, context.get(axi.arlen) + 1, lane, now))
            if taken[1]:
                address = context.get(axi.awaddr) - self.base
            if taken[2]:
                data = (context.get(axi.wdata), context.get(axi.wstrb))
            if address is not None and data is not None:
                answers.append(self._write(address, *data, lane))
                address = data = None
            await context.tick()
            now += 1

    def _burst(self, at: int, length: int, lane: int, now: int) -> list[tuple[int, int, int, int]]:
        fault = self.faults.get(len(self.reads), Burst())
        self.reads.append((at, length))
        count = length + fault.longer - fault.shorter
        beats = []
        for beat in range(count):
            start = at + beat * lane
            last = (beat == count - 1 and not fault.lost) or (beat == 0 and fault.early)
            word = int.from_bytes(self.image[start : start + lane], "little")
            beats.append((now + self.latency, word, fault.response if beat == 0 else OKAY, int(last)))
        return beats

    def _write(self, at: int, word: int, strobes: int, lane: int) -> int:
        response = self.write_responses.get(len(self.writes), OKAY)
        self.writes.append(at)
        if response == OKAY:
            for byte in range(lane):
                if strobes >> byte & 1:
                    self.image[at + byte] = word >> 8 * byte & 0xFF
        return response
