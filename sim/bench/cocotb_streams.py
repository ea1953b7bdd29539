"""The cocotb side of `check_streams`: one coroutine drives and checks every stream of a component.

It runs inside the simulator, on the wrapper module that `check_streams` writes: all inputs are slices of one vector
`drive`, all outputs of one vector `observe`, so a cycle costs one read and one write whatever the number of ports.
Values stay text (bits, most significant first) from end to end. The job comes from, and the verdict goes to, JSON files
named by the environment variables `TRITAPE_BENCH_JOB` and `TRITAPE_BENCH_RESULT`.

A read at the rising edge gives the value just before it; a write takes effect just after it.
"""

from __future__ import annotations

import json
import os
import random
from pathlib import Path
from typing import Any

import cocotb
from cocotb.clock import Clock
from cocotb.triggers import RisingEdge
from monitor import StreamMonitor  # this folder is on PYTHONPATH: the package itself would import Amaranth

RESET_CYCLES = 4
QUIET_CYCLES = 64  # how long the bench goes on after the last expected element, to catch extra ones
IDLE_LIMIT = 10_000  # cycles without any transfer that count as a timeout when no max_cycles is given
HOLD_SHARE = 0.25  # of the elements: ready stays low until valid is seen


class Failed(Exception):
    """Ends the run; the arguments are the verdict's fields."""

    def __init__(self, kind: str, **fields: Any) -> None:
        super().__init__(kind)
        self.fields = {"kind": kind, **fields}


class StreamPort:
    """What both directions share."""

    def __init__(self, port: dict[str, Any], seed: str) -> None:
        self.name: str = port["name"]
        self.words: list[str] = port["words"] or []
        self.compared = port["words"] is not None  # or else: an output whose elements are taken and not compared
        self.stall: float = port["stall"]
        self.random = random.Random(seed)
        self.monitor = StreamMonitor()
        self.cycles: list[int] = []  # cycle of each transfer
        self.gates: dict[int, list[tuple[StreamPort, int]]] = {}  # element -> what must have been transferred before

    def held_back(self) -> bool:
        """Whether the next element has to wait for transfers of other ports."""
        return any(len(port.cycles) < count for port, count in self.gates.get(len(self.cycles), ()))

    def missing(self) -> int:
        """Elements still to come."""
        return len(self.words) - len(self.cycles) if self.compared else 0


class InputDriver(StreamPort):
    """Sends one port's elements in order, with random stalls; while not valid the payload is noise."""

    def __init__(self, port: dict[str, Any], seed: str) -> None:
        super().__init__(port, seed)
        width = port["width"]
        self.noise = [f"{self.random.getrandbits(width):0{width}b}0" if width else "0" for _ in range(16)]
        self.valid = False
        self.text = self.noise[0]  # payload and valid

    def choose(self) -> None:
        """Decide what the next cycle offers; `valid` is low when this is called."""
        index = len(self.cycles)
        if index < len(self.words) and (not self.stall or self.random.random() >= self.stall) and not self.held_back():
            self.valid = True
            self.text = self.words[index] + "1"
        else:
            self.text = self.noise[int(self.random.random() * 16)]

    def step(self, cycle: int, ready: str) -> None:
        if ready == "1":
            if self.valid:
                self.cycles.append(cycle)
                self.valid = False
        elif ready != "0":
            broken = self.monitor.check("0", ready, "")
            raise Failed("rule", port=self.name, index=len(self.cycles), cycle=cycle, rule=broken)
        if not self.valid:
            self.choose()


class OutputTaker(StreamPort):
    """Takes one port's elements with random stalls, checks the rules and compares with what is expected."""

    def __init__(self, port: dict[str, Any], seed: str) -> None:
        super().__init__(port, seed)
        self.first_valid: int | None = None
        self.hold = self.stall > 0  # this element's ready waits for its valid, so a valid that waits for ready hangs
        self.ready = "0"

    def choose(self, seen: bool) -> None:
        """Decide the next cycle's `ready`; `seen`: the element it would take has been offered already."""
        if self.held_back():
            self.ready = "0"
        elif not self.stall:
            self.ready = "1"
        else:
            self.ready = "1" if (seen or not self.hold) and self.random.random() >= self.stall else "0"

    def step(self, cycle: int, payload: str, valid: str) -> None:
        broken = self.monitor.check(valid, self.ready, payload)
        index = len(self.cycles)
        if broken is not None:
            raise Failed("rule", port=self.name, index=index, cycle=cycle, rule=broken)
        seen = valid == "1"
        if seen:
            if self.first_valid is None:
                self.first_valid = cycle
            if self.compared and index >= len(self.words):
                raise Failed("extra", port=self.name, index=index, cycle=cycle, got=payload)
            if self.ready == "1":
                if self.compared and payload != self.words[index]:
                    raise Failed("mismatch", port=self.name, index=index, cycle=cycle, got=payload)
                self.cycles.append(cycle)
                seen = False
                self.hold = self.random.random() < HOLD_SHARE
        self.choose(seen)


async def drive_and_check(dut: Any, job: dict[str, Any]) -> dict[str, Any]:
    """Run one job; returns the verdict's fields of a good run, raises `Failed` for a bad one."""
    drivers = [InputDriver(port, f"{job['seed']} in {port['name']}") for port in job["inputs"]]
    takers = [OutputTaker(port, f"{job['seed']} out {port['name']}") for port in job["outputs"]]
    by_name: dict[str, StreamPort] = {port.name: port for port in (*drivers, *takers)}
    for port in (*job["inputs"], *job["outputs"]):
        for index, other, count in port["after"]:
            by_name[port["name"]].gates.setdefault(index, []).append((by_name[other], count))

    # observe: payload and valid of each output, ready of each input, plain outputs
    at = 0
    slots = []
    for taker, port in zip(takers, job["outputs"]):
        slots.append((taker, at, at + port["width"]))
        at += port["width"] + 1
    ready_at, plain_at = at, at + len(drivers)
    statics = job["statics"]  # drive: plain inputs, payload and valid of each input, ready of each output

    def drive_text() -> str:
        return statics + "".join([d.text for d in drivers]) + "".join([t.ready for t in takers])

    drive, observe, edge = dut.drive, dut.observe, RisingEdge(dut.clk)
    drive.value = drive_text() or "0"
    dut.rst.value = 1
    Clock(dut.clk, 2, unit="step").start()
    for _ in range(RESET_CYCLES):
        await edge
    dut.rst.value = 0
    for driver in drivers:
        driver.choose()
    for taker in takers:
        taker.choose(False)
    drive.value = drive_text() or "0"

    counted: list[StreamPort] = [*drivers, *(taker for taker in takers if taker.compared)]
    target = sum(len(port.words) for port in counted)
    quiet: int | None = None
    limit, finished = job["max_cycles"], 0
    cycle = last_transfer = moved = 0
    bits = ""
    while quiet is None or cycle < quiet:
        await edge
        bits = str(observe.value)
        for taker, low, high in slots:
            taker.step(cycle, bits[low:high], bits[high])
        for number, driver in enumerate(drivers, ready_at):
            driver.step(cycle, bits[number])
        drive.value = drive_text() or "0"
        cycle += 1
        if quiet is None:
            total = sum([len(port.cycles) for port in counted])
            if total != moved:
                moved, last_transfer = total, cycle
            if total == target:
                finished, quiet = cycle, cycle + QUIET_CYCLES
            elif (cycle >= limit) if limit is not None else (cycle - last_transfer >= IDLE_LIMIT):
                late = next(port for port in (*takers, *drivers) if port.missing())
                held = isinstance(late, OutputTaker) and late.hold and late.ready == "0"
                progress = {port.name: f"{len(port.cycles)}/{len(port.words)}" for port in counted}
                raise Failed(
                    "timeout", port=late.name, index=len(late.cycles), cycle=cycle, held=held, progress=progress
                )
    return {
        "kind": "good",
        "cycles": finished,
        "transfers": {port.name: port.cycles for port in (*drivers, *takers)},
        "first_valid": {taker.name: taker.first_valid for taker in takers},
        "plain": bits[plain_at:],
    }


@cocotb.test()
async def streams(dut: Any) -> None:
    """Entry point: never fails by itself, so that the caller reports what went wrong in one place."""
    job = json.loads(Path(os.environ["TRITAPE_BENCH_JOB"]).read_text())
    try:
        verdict = await drive_and_check(dut, job)
    except Failed as failed:
        verdict = failed.fields
    Path(os.environ["TRITAPE_BENCH_RESULT"]).write_text(json.dumps(verdict))
