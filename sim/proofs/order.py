"""What passes through a part comes out once, in order, unchanged.

Payloads are numbered as they come in, so the number that must come out is known. The parts only move payloads, so what holds for
numbers holds for every payload; numbers are modulo 16, more than any of the parts can hold.
"""

from __future__ import annotations

from collections.abc import Callable

from amaranth.hdl import Assert, Assume, Module, Signal, Value

from tritape.hw.memory.gearbox import Gearbox
from tritape.hw.stream.broadcast import Broadcast
from tritape.hw.stream.buffer import StreamBuffer
from tritape.hw.stream.queue import CommandQueue
from tritape.hw.stream.skid import Skid
from tritape.sim.proofs.hold import Bench, drive

BITS = 4


def _number(m: Module, port: tuple[Value, Value, Value], name: str) -> Signal:
    """How many elements have passed a port."""
    valid, _, ready = port
    count = Signal(BITS, name=f"{name}_count")
    with m.If(valid & ready):
        m.d.sync += count.eq(count + 1)
    return count


def _numbered(m: Module, bench: Bench, source: str) -> Signal:
    """Number the elements of an input."""
    valid, payload, _ = bench.outer[source]
    count = _number(m, bench.outer[source], source)
    m.d.comb += Assume(~valid | (payload == count), "elements are numbered")
    return count


def _in_order(m: Module, bench: Bench, target: str) -> Signal:
    """Assert that an output gives number after number."""
    valid, payload, _ = bench.outer[target]
    count = _number(m, bench.outer[target], target)
    m.d.comb += Assert(~valid | (payload == count), f"{target} in order")
    return count


def broadcast(kind: type[Broadcast] = Broadcast) -> Callable[[Module], list[Value]]:
    """Every receiver gets every element once."""

    def build(m: Module) -> list[Value]:
        bench = drive(m, kind(BITS, 3))
        given, taken = _numbered(m, bench, "source"), bench.inside.signal("taken")
        for index in range(3):
            count = _in_order(m, bench, f"targets_{index}")
            m.d.comb += Assert(count == (given + taken[index])[:BITS], "no receiver is ahead or behind")
        return bench.free

    return build


def skid(kind: type[Skid] = Skid) -> Callable[[Module], list[Value]]:
    """A bypass skid buffer."""

    def build(m: Module) -> list[Value]:
        bench = drive(m, kind(BITS))
        given, count = _numbered(m, bench, "source"), _in_order(m, bench, "sink")
        full = bench.inside.signal("full")
        m.d.comb += Assert(given == (count + full)[:BITS], "what came has left or waits")
        m.d.comb += Assert(~full | (bench.inside.signal("held") == count), "what waits is next")
        return bench.free

    return build


def buffer(kind: type[StreamBuffer] = StreamBuffer) -> Callable[[Module], list[Value]]:
    """Two registers."""

    def build(m: Module) -> list[Value]:
        bench = drive(m, kind(BITS))
        given, count = _numbered(m, bench, "sender"), _in_order(m, bench, "receiver")
        full, valid = bench.inside.signal("full"), bench.outer["receiver"][0]
        m.d.comb += [
            Assert(given == (count + valid + full)[:BITS], "what came has left or waits"),
            Assert(
                ~full | (valid & (bench.inside.signal("spare") == (count + 1)[:BITS])), "what waits is next but one"
            ),
        ]
        return bench.free

    return build


def queue(kind: type[CommandQueue] = CommandQueue) -> Callable[[Module], list[Value]]:
    """A FIFO in memory, as commands wait in."""

    def build(m: Module) -> list[Value]:
        bench = drive(m, kind(BITS))
        inside, ready = bench.inside, bench.outer["receiver"][0]
        given, count = _numbered(m, bench, "sender"), _in_order(m, bench, "receiver")
        level, consume, produce = (inside.signal(name, "queue") for name in ("inner_level", "consume", "produce"))
        depth = kind.DEPTH - 1
        m.d.comb += [
            Assert(given == (count + ready + level)[:BITS], "what came has left or waits"),
            Assert((level <= depth) & (consume < depth) & (produce < depth), "places"),
            Assert(produce == (consume + level) % depth, "what is between is full"),
        ]
        for index in range(depth):
            place = (consume + index) % depth
            stored = inside.word(place, "queue", "storage")
            m.d.comb += Assert((index >= level) | (stored == (count + ready + index)[:BITS]), "the memory is in order")
        return bench.free

    return build


def gearbox(kind: type[Gearbox] = Gearbox, line_bytes: int = 4, groups: int = 5) -> Callable[[Module], list[Value]]:
    """Word i of a run is bytes `skip * unit + i G` and following of its lines, and a run takes no line too many or too few.

    Every byte of the lines is its own address, modulo 256; runs of at most three words, as many as fit.
    """

    def build(m: Module) -> list[Value]:
        dut = kind(line_bytes, groups)
        unit = dut.grain.unit
        bench = drive(m, dut)
        offered, run, taken = bench.outer["runs"]
        valid, line, ready = bench.outer["lines"]
        out, word, leaves = bench.outer["words"]
        skip, words = run[:16], run[16:]
        m.d.comb += Assume(~offered | ((words != 0) & (words <= 3)), "runs are short")
        address = Signal(8)  # of the next line
        with m.If(valid & ready):
            m.d.sync += address.eq(address + line_bytes)
        for index in range(line_bytes):
            m.d.comb += Assume(line.word_select(index, 8) == (address + index)[:8], "bytes are addresses")
        # Two runs: the one whose words leave, and the one whose lines come
        place, left, later, more = Signal(8), Signal(2), Signal(8), Signal(2)
        begins, passes = offered & taken, out & leaves
        first = (address + skip * unit)[:8]
        end = Signal(8)  # of the lines of the last run
        ends = first + words * groups
        with m.If(begins):
            m.d.sync += end.eq((ends + line_bytes - 1) & ~(line_bytes - 1))
            with m.If((left == 0) | (passes & (left == 1) & (more == 0))):
                m.d.sync += [place.eq(first), left.eq(words)]
            with m.Else():
                m.d.sync += [later.eq(first), more.eq(words)]
        with m.If(passes & (left != 1)):
            m.d.sync += [place.eq(place + groups), left.eq(left - 1)]
        with m.Elif(passes & (more != 0)):
            m.d.sync += [place.eq(later), left.eq(more), more.eq(0)]
        with m.Elif(passes & ~begins):
            m.d.sync += left.eq(0)
        for index in range(groups):
            m.d.comb += Assert(~out | (word.word_select(index, 8) == (place + index)[:8]), "words in order")
        m.d.comb += Assert(~out | (left != 0), "no word too many")
        m.d.comb += Assert(~begins | (address == end), "no line too many or too few")
        m.d.comb += Assert(~(begins & (more != 0)), "two runs at most")
        return bench.free

    return build
