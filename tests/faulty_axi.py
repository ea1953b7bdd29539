"""An AXI4 memory that breaks the rules on request, as a test bench of Amaranth's simulator."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

OKAY, SLVERR, DECERR = 0, 2, 3
Beat = tuple[int, int, int, int, int]
"""Cycle from which on it may come, data, response, last, identifier; a write's answer has no data."""


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
    missing: bool = False
    """Nothing of it ever comes, but what follows it does."""
    later: int = 0
    """Cycles by which it is late; bursts of other identifiers pass it."""


@dataclass
class FaultyAXI:
    """`run` drives one port until the simulation ends: it answers reads from `image`, and writes into it.

    Answers of one identifier come in order, of different ones in any. Bursts are counted from 0 over the whole simulation;
    those in `faults` go wrong. While `silent` nothing is taken or given.
    """

    image: bytearray
    base: int = 0
    latency: int = 3
    faults: dict[int, Burst] = field(default_factory=dict)
    write_responses: dict[int, int] = field(default_factory=dict)
    """Write by its number to its response; others are OKAY."""
    late_answers: dict[int, int | None] = field(default_factory=dict)
    """Write by its number to the cycles by which its answer is late; None: it never comes."""
    silent: Callable[[], bool] = lambda: False
    stray: int = 0
    """Beats to give that nothing asked for."""
    stray_answers: int = 0
    """Write responses to give that nothing asked for."""
    reads: list[tuple[int, int]] = field(default_factory=list)
    """(offset in the image, beats) of all bursts taken."""
    writes: list[int] = field(default_factory=list)
    """Offset in the image of all beats written."""
    rng: random.Random = field(default_factory=lambda: random.Random(5))

    async def run(self, context: Any, axi: Any) -> None:
        pins: dict[str, int] = {}

        def drive(**values: int) -> None:  # only what changes: setting a signal is what a cycle costs most
            for name, value in values.items():
                if pins.get(name) != value:
                    pins[name] = value
                    context.set(getattr(axi, name), value)

        lane = len(axi.wstrb)
        # made once: an expression costs as much as the cycle that it looks at
        handshakes = [axi.arvalid & axi.arready, axi.awvalid & axi.awready, axi.wvalid & axi.wready]
        beats: list[Beat] = []
        answers: list[Beat] = []
        now, address, data, writer = 0, None, None, 0
        while True:
            silent = self.silent()
            drive(arready=not silent and len(beats) < 128)
            drive(awready=not silent and address is None, wready=not silent and data is None)
            if self.stray and not silent:
                self.stray -= 1
                beats.insert(0, (now, 0xDEAD, OKAY, 1, context.get(axi.arid)))
            if self.stray_answers and not silent:
                self.stray_answers -= 1
                answers.insert(0, (now, 0, OKAY, 1, context.get(axi.awid)))
            given = None if silent else self._next(beats, now)
            drive(rvalid=given is not None)
            if given is not None:
                _, word, response, last, identifier = beats.pop(given)
                drive(rdata=word, rresp=response, rlast=last, rid=identifier)
            answered = None if silent else self._next(answers, now)
            drive(bvalid=answered is not None)
            if answered is not None:
                _, _, response, _, identifier = answers.pop(answered)
                drive(bresp=response, bid=identifier)
            taken = [context.get(handshake) for handshake in handshakes]
            if taken[0]:
                at, length = context.get(axi.araddr) - self.base, context.get(axi.arlen) + 1
                beats.extend((*beat, context.get(axi.arid)) for beat in self._burst(at, length, lane, now))
            if taken[1]:
                address, writer = context.get(axi.awaddr) - self.base, context.get(axi.awid)
            if taken[2]:
                data = (context.get(axi.wdata), context.get(axi.wstrb))
            if address is not None and data is not None:
                late = self.late_answers.get(len(self.writes), 0)
                response = self._write(address, *data, lane)
                if late is not None:
                    answers.append((now + late, 0, response, 1, writer))
                address = data = None
            await context.tick()
            now += 1

    def _next(self, queue: list[Beat], now: int) -> int | None:
        """Place of what is given now: the first of its identifier, which of them at random."""
        first: dict[int, int] = {}
        for place, beat in enumerate(queue):
            first.setdefault(beat[-1], place)
        due = [place for place in first.values() if queue[place][0] <= now]
        return self.rng.choice(due) if due else None

    def _burst(self, at: int, length: int, lane: int, now: int) -> list[tuple[int, int, int, int]]:
        fault = self.faults.get(len(self.reads), Burst())
        self.reads.append((at, length))
        count = 0 if fault.missing else length + fault.longer - fault.shorter
        beats = []
        for beat in range(count):
            start = at + beat * lane
            last = (beat == count - 1 and not fault.lost) or (beat == 0 and fault.early)
            word = int.from_bytes(self.image[start : start + lane], "little")
            beats.append((now + self.latency + fault.later, word, fault.response if beat == 0 else OKAY, int(last)))
        return beats

    def _write(self, at: int, word: int, strobes: int, lane: int) -> int:
        response = self.write_responses.get(len(self.writes), OKAY)
        self.writes.append(at)
        if response == OKAY:
            for byte in range(lane):
                if strobes >> byte & 1:
                    self.image[at + byte] = word >> 8 * byte & 0xFF
        return response
