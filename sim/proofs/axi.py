"""AXI: what the backends ask of a bus, whatever comes back."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from amaranth.hdl import Assert, Assume, Cat, Module, Mux, Signal, Value

from tritape.hw.memory.axi_bus import BOUNDARY
from tritape.hw.memory.axi_reader import AXIReader
from tritape.hw.memory.axi_writer import AXIWriter
from tritape.hw.memory.planner import Planner
from tritape.hw.memory.signature import Request
from tritape.hw.memory.times import times
from tritape.hw.memory.word_bytes import WordBytes
from tritape.sim.proofs.hold import constant, drive, previous

BITS, BURST, LINES, GROUPS, WORDS = 16, 4, 8, 5, 100
LINE_BYTES = BITS // 8
FETCHED_LINES = 1 << 20  # more than a page of 4 KiB
IMAGE_LINES = -(-WORDS * GROUPS // LINE_BYTES)


def _stays(m: Module, name: str, valid: Value, ready: Value, *fields: Value) -> None:
    """The handshake of AXI4 (A3.2.1): once valid is high, it and what goes with it stay until ready."""
    m.d.comb += Assert(~previous(m, valid & ~ready) | valid, f"{name}valid stays until {name}ready")
    same = Cat(*fields)
    m.d.comb += Assert(
        ~previous(m, valid & ~ready) | (same == previous(m, same)), f"{name} is constant until {name}ready"
    )


def requests_inside(kind: type[Planner] = Planner) -> Callable[[Module], list[Value]]:
    """Every fetch lies inside the image, and has a line at least; a request that does not fit is refused and gives none."""

    def build(m: Module) -> list[Value]:
        bench = drive(m, kind(LINE_BYTES, GROUPS, 1, WORDS))
        valid, payload, _ = bench.outer["fetches_0"]
        line, count = payload[:32], payload[32:]
        m.d.comb += Assert(~valid | (count != 0), "a fetch has a line")
        m.d.comb += Assert(~valid | (line + count <= IMAGE_LINES), "a fetch lies inside the image")
        # Invariants
        inside, request = bench.inside, bench.outer["requests"][1]
        stage, word = inside.signal("stage"), GROUPS  # the unit is a byte: W and G have no common divisor
        address, length = previous(m, request[:32]), previous(m, request[32 : Request.size])
        first = stage == 1
        m.d.comb += [
            Assert(~first | (inside.signal("start") == times(address, word)), "start"),
            Assert(~first | (inside.signal("size") == times(length, word)), "size"),
            Assert(~first | (length != 0), "length"),
            Assert(~first | inside.signal("outside") | (address + length <= WORDS), "outside"),
        ]
        return bench.free

    return build


def bursts(kind: type[AXIReader] = AXIReader) -> Callable[[Module], list[Value]]:
    """Bursts read the lines of a fetch in order, each once, and none beyond; none crosses 4 KiB; AR keeps its handshake."""

    def build(m: Module) -> list[Value]:
        bench = drive(m, kind(BITS, burst=BURST, fifo_lines=LINES))
        inside, outer = bench.inside, bench.outer
        address, beats = outer["axi_araddr"], outer["axi_arlen"] + 1
        base, valid = outer["base"], outer["axi_arvalid"]
        constant(m, base)
        m.d.comb += Assume(base[:12] == 0, "base must be a multiple of 4096")
        offered, fetch, taken = outer["fetches"]
        m.d.comb += Assume(~offered | (fetch[:32] + fetch[32:] <= FETCHED_LINES), "fetches lie inside the image")
        m.d.comb += Assume(~offered | (fetch[32:] != 0), "count must be at least 1")
        # What is still to be asked for
        line, left, asked = Signal(32), Signal(32), inside.signal("issue")
        fresh = previous(m, asked)  # the address channel has a new burst
        with m.If(offered & taken):
            m.d.sync += [line.eq(fetch[:32]), left.eq(fetch[32:])]
        with m.Elif(fresh):
            m.d.sync += [line.eq(line + beats), left.eq(left - beats)]
        with m.If(outer["restart"]):
            m.d.sync += left.eq(0)
        stop = previous(m, outer["restart"])
        _stays(m, "ar", valid, outer["axi_arready"], address, beats, outer["axi_arid"])
        m.d.comb += [
            Assert(~fresh | valid, "a burst is offered"),
            Assert(
                ~fresh | stop | (address == (base + line * LINE_BYTES)[:40]), "bursts go on where the last one ended"
            ),
            Assert(~fresh | stop | (beats <= left), "no beat beyond the fetch"),
            Assert(~valid | (beats <= BURST), "no burst is longer than wanted"),
            Assert(~valid | (address[:12] + beats * LINE_BYTES <= BOUNDARY), "no burst crosses 4 KiB"),
            Assert(outer["axi_rready"] & (outer["axi_arburst"] == 1), "INCR, always ready"),
        ]
        # Invariants
        now, rest = inside.signal("line"), inside.signal("left")
        busy, planned, final = inside.signal("busy"), inside.signal("planned"), inside.signal("final")
        size, room = inside.signal("size"), inside.signal("room")
        later, gone = Mux(fresh, line + beats, line)[:32], Mux(fresh, left - beats, left)[:32]
        m.d.comb += [
            Assert(~planned | busy, "what is planned is of a fetch"),
            Assert(~busy | ((now == later) & (rest == gone) & (rest != 0)), "what is left"),
            Assert(~busy | (now + rest <= FETCHED_LINES), "what is left lies inside the image"),
            Assert(~planned | ((size == Mux(rest <= room, rest, room)) & (final == (rest <= room))), "the next burst"),
        ]
        return bench.free

    return build


def lines_fit(kind: type[AXIReader] = AXIReader) -> Callable[[Module], list[Value]]:
    """Every line passed on has a place in the FIFO, if no more beats come than were asked for, RLAST anywhere; of what was given
    up any number may come at any time."""

    def build(m: Module) -> list[Value]:
        bench = drive(m, kind(BITS, burst=BURST, fifo_lines=LINES))
        inside, outer = bench.inside, bench.outer
        write, room = inside.given("w_en", "buffer"), inside.signal("w_rdy", "buffer")
        free, under_way, level = inside.signal("free"), inside.signal("under_way"), inside.signal("level", "buffer")
        dropping, broken = inside.signal("dropping"), inside.signal("broken")
        given = outer["axi_rvalid"] & (outer["axi_rid"] == outer["axi_arid"])
        m.d.comb += Assume(~given | (under_way != 0), "no beat that nothing asked for")
        m.d.comb += [
            Assert(~write | room | outer["restart"], "a line has a place"),
            Assert(~write | given, "a beat that was given up is dropped"),
            Assert(dropping | broken | (free + under_way + level == LINES), "every place is counted"),
            Assert(~dropping | (free == LINES), "all is free in a restart"),
            Assert(~dropping | (level == 0), "nothing is there in a restart"),
            Assert(
                ~dropping | ~(inside.signal("busy") | inside.signal("planned")), "nothing is asked for in a restart"
            ),
            Assert(outer["lines"][0] | (level <= 1), "a line is offered soon"),
            Assert(~inside.signal("planned") | inside.signal("busy"), "what is planned is of a fetch"),
            Assert(level <= LINES, "no more lines than places"),
        ]
        return bench.free

    return build


def restart_ends(kind: type[AXIReader] = AXIReader) -> Callable[[Module], list[Value]]:
    """A restart waits for two ticks at most without a beat, once the bus has taken the address; whatever comes later of what
    was given up has another identifier."""

    def build(m: Module) -> list[Value]:
        bench = drive(m, kind(BITS, burst=BURST, fifo_lines=LINES))
        inside, outer = bench.inside, bench.outer
        dropping, quiet, given = inside.signal("dropping"), inside.signal("quiet"), inside.signal("given")
        identifier = outer["axi_arid"]
        ticks = Signal(2)  # since the restart, the last beat, or the address was taken
        waits = dropping & ~given & ~outer["axi_arvalid"] & ~outer["restart"]
        m.d.sync += ticks.eq(Mux(waits, ticks + outer["tick"], 0))
        owed = (inside.signal("under_way") != 0) | inside.signal("r_rdy", "lengths")
        ended = previous(m, dropping & ~outer["restart"]) & ~dropping
        m.d.comb += [
            Assert(
                ~ended | ~previous(m, owed) | (identifier != previous(m, identifier)),
                "what is owed has an old identifier",
            ),
            Assert((ticks < 2) | ((ticks == 2) & ~dropping), "two ticks end a restart"),
            Assert(~dropping | (ticks == 0) | quiet, "a tick is noticed"),
        ]
        return bench.free

    return build


def writes(kind: type[AXIWriter] = AXIWriter) -> Callable[[Module], list[Value]]:
    """A beat is one aligned write of one beat: AW and W keep their handshakes, each is taken once before the response counts."""

    def build(m: Module) -> list[Value]:
        bench = drive(m, kind(BITS, 2))
        inside, outer = bench.inside, bench.outer
        begins, ends = inside.state("ADDRESS"), inside.state("STORED") | inside.state("DROP")
        for port in range(2):
            constant(m, outer[f"base_{port}"])
            m.d.comb += Assume(outer[f"base_{port}"][:12] == 0, "bases must be multiples of 4096")
            channel: dict[str, Any] = {
                name: outer[f"axi_{port}_{name}"]
                for name in (
                    "awid",
                    "awaddr",
                    "awvalid",
                    "awready",
                    "awlen",
                    "wvalid",
                    "wready",
                    "wdata",
                    "wstrb",
                    "wlast",
                )
            }
            _stays(
                m, "aw", channel["awvalid"], channel["awready"], channel["awaddr"], channel["awlen"], channel["awid"]
            )
            _stays(m, "w", channel["wvalid"], channel["wready"], channel["wdata"], channel["wstrb"])
            mine = inside.signal("port")[0] == port
            for name in ("aw", "w"):
                count = Signal(2, name=f"{name}_{port}_taken")
                with m.If(begins):
                    m.d.sync += count.eq(0)
                with m.Elif(channel[f"{name}valid"] & channel[f"{name}ready"] & (count != 3)):
                    m.d.sync += count.eq(count + 1)
                m.d.comb += Assert(~ends | (count == mine), f"{name} is taken once")
                offered = channel[f"{name}valid"]
                m.d.comb += Assert(~inside.state("ANSWER") | ~mine | (count + offered == 1), f"{name} is offered once")
                m.d.comb += Assert(~inside.state("ANSWER") | mine | (count + offered == 0), f"{name} of the other port")
                m.d.comb += Assert(inside.state("ANSWER") | ~offered, f"{name} only while its answer is waited for")
            m.d.comb += Assert(
                ~channel["awvalid"]
                | ((channel["awaddr"][: (LINE_BYTES - 1).bit_length()] == 0) & (channel["awlen"] == 0)),
                "an aligned address, one beat",
            )
            m.d.comb += Assert(channel["wlast"], "the last beat")
            m.d.comb += Assert(
                ~inside.state("ANSWER") | (inside.signal("waiting")[port] == mine), "who owes a response"
            )
            m.d.comb += Assert(
                ~inside.signal("quiet") | ~(channel["awvalid"] | channel["wvalid"]), "what is offered is not given up"
            )
        m.d.comb += Assert(inside.known(), "the FSM is in one of its states")
        m.d.comb += Assert(inside.state("ANSWER") | (inside.signal("waiting") == 0), "nobody else owes a response")
        return bench.free

    return build


def bytes_inside(kind: type[WordBytes] = WordBytes) -> Callable[[Module], list[Value]]:
    """No byte outside the memory is given on."""

    def build(m: Module) -> list[Value]:
        bench = drive(m, kind(GROUPS, WORDS))
        valid, payload, _ = bench.outer["bytes"]
        left = bench.inside.signal("left")
        address, last = payload[:40], payload[48]
        m.d.comb += [
            Assert(~valid | (address < WORDS * GROUPS), "a byte lies inside the memory"),
            Assert(~valid | (address + left < WORDS * GROUPS), "and those behind it"),
            Assert(~valid | (last == (left == 0)), "the last byte"),
            Assert(~valid | (left < GROUPS), "no more bytes than a word has"),
        ]
        return bench.free

    return build
