"""The host link: a command that was taken always ends in a reply, and the link is free again."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from amaranth.hdl import Assert, Cat, Const, Module, Mux, Value

from tritape.hw.config import Config
from tritape.hw.link.commands import Command
from tritape.hw.link.frame_port import FramePort
from tritape.hw.link.host_link import HostLink
from tritape.sim.proofs.hold import drive, previous
from tritape.sim.proofs.inside import Inside

SMALL = Config(groups=4, max_hidden=6, max_intermediate=8, max_layers=2, max_vocab=9, max_rows=4)
PATIENCE = 6

# How far a command has come, by the state of `HostLink`: a later one is lower. The states of the loops behind the command and
# behind the head of the reply are 8 and 4; in a loop the count of what is left falls, then the stage.
_PHASES = {
    "HEADER": 15, "ADMIT": 14, "DECODE": 13, "SEEK": 12, "TOKENS": 11, "SETTLE": 12, "BOOT": 11, "BOOTING": 10,
    "TAKE": 9, "STORE": 9, "ANSWER": 7, "HEAD": 6, "CONSTANT": 3, "END": 2, "COMMAND": 1,
}  # fmt: skip
_LOOP = ("MORE", "REQUEST", "FETCH", "GIVE", "LOOK")
_STAGES = {"TAKE": 2, "STORE": 1, "GIVE": 3, "MORE": 2, "REQUEST": 1, "LOOK": 1, "FETCH": 0}
_WAITING = ("STORE", "BOOTING", "REQUEST", "FETCH")
_STEPPING = ("HEADER", "HEAD", "TAKE", "GIVE", "CONSTANT", "LOOK")


def _pick(values: Mapping[str, int], states: Mapping[str, Value], width: int) -> Value:
    result: Value = Const(0, width)
    for name, number in values.items():
        result = result | Mux(states[name], Const(number, width), Const(0, width))
    return result


def _any(states: Mapping[str, Value], names: tuple[str, ...]) -> Value:
    return Cat(states[name] for name in names).any()


def _rank(link: Inside, states: Mapping[str, Value]) -> Value:
    """A number that falls in every cycle in which a command goes on."""
    answered, steps, header = link.signal("answered"), link.signal("steps"), link.signal("header")
    fetching, fetched = link.signal("fetching", "port"), link.signal("fetched", "port")
    left, timer = link.signal("left", "port", "crc"), link.signal("timer")
    looping = _any(states, _LOOP)
    counting = looping | states["TAKE"] | states["STORE"]
    return Cat(
        (~fetching).as_unsigned() + (~fetched).as_unsigned(),
        Mux(_any(states, _WAITING), ~timer, left)[: max(len(timer), len(left))],
        Mux(_any(states, _STEPPING), steps, 0),
        _pick(_STAGES, states, 2),
        Mux(counting, header[48:], 0),
        _pick(_PHASES, states, 4) | Mux(looping, Mux(answered, Const(4, 4), Const(8, 4)), Const(0, 4)),
    )


def _waits_for_others(link: Inside, states: Mapping[str, Value], outer: dict[str, Any], serial: bool) -> Value:
    """The host, the token loop or its reader is waited for, which ends with the next byte from the host. (Not so BOOT, but then
    the reader is just out of its reset; nor WRITE of a serial configuration.)"""
    header, running, pending = link.signal("header"), link.signal("running", "runner"), link.signal("pending", "port")
    idle_command, free = header[4], states["HEADER"] & (link.signal("steps") == 8)
    available = link.signal("available", "runner")
    logits = states["MORE"] & (header[:5] == Command.LOGITS) & ~outer["logits"][0]
    memory: Value = Const(0)
    if serial:
        memory = _any(states, _WAITING) & link.signal("timer").all() & ~pending
        memory |= states["STORE"] & (header[:5] == Command.WRITE)
    return (
        memory
        | (free & ~link.state("OBEY", "port"))
        | (states["ADMIT"] & idle_command & running & ~pending)
        | (states["TOKENS"] & ~available & running & ~pending)
        | (logits & running & ~pending)
        | (states["BOOT"] & ~outer["boot"][2])
    )


def command_ends(kind: type[HostLink] = HostLink, config: Config = SMALL) -> Callable[[Module], list[Value]]:
    """Every cycle of a command brings it nearer to its END, unless the link waits for others."""

    def build(m: Module) -> list[Value]:
        bench = drive(m, kind(config, memory_words=64, counter_count=15, patience=PATIENCE))
        link = bench.inside
        states = {name: link.state(name) for name in link.states()}
        rank = _rank(link, states)
        ended = states["COMMAND"]
        goes_on = ~ended & ~_waits_for_others(link, states, bench.outer, config.serial)
        fell = rank < previous(m, rank)
        m.d.comb += Assert(~previous(m, goes_on) | fell, "a command comes nearer to its end")
        # Invariants of the induction
        steps, count = link.signal("steps"), link.signal("header")[48:]
        taken = ~ended & ~(states["HEADER"] & (steps == 8))
        counted = _any(states, ("TAKE", "STORE", "REQUEST", "FETCH", "LOOK"))
        before, checks = (
            ~_any(states, (*_LOOP, "HEAD", "CONSTANT", "END", "COMMAND")),
            link.signal("header")[:5] == Command.CHECK,
        )
        writes = link.signal("header")[:5] == Command.WRITE
        silent, answered = link.signal("status") == 0, link.signal("answered")
        m.d.comb += [
            Assert(~before | ~answered, "no head is on its way before it is begun"),
            Assert(~(before & ~states["ANSWER"]) | silent, "no error is told before the head is begun"),
            Assert(~_any(states, _LOOP) | answered | (checks & silent), "only CHECK reads before the head is begun"),
            Assert(~_any(states, ("REQUEST", "FETCH", "BOOT", "BOOTING")) | ~writes, "WRITE does not read"),
            Assert(link.known() & link.known("port") & link.known("runner"), "every FSM is in one of its states"),
            Assert(~taken | link.state("OBEY", "port"), "the port obeys until the end"),
            Assert(~_any(states, ("HEADER", "HEAD", "TAKE", "GIVE", "CONSTANT")) | (steps != 0), "steps are left"),
            Assert(~(states["SETTLE"] & writes) | (steps != 0), "steps are left to write"),
            Assert(~_any(states, ("HEAD", "CONSTANT", "END")) | answered, "the head is on its way"),
            Assert(~counted | (count != 0), "a count is left"),
        ]
        return bench.free

    return build


def reply_leaves(kind: type[FramePort] = FramePort) -> Callable[[Module], list[Value]]:
    """A reply leaves to its last byte, and then the port receives; while it receives, a byte waits for 8 cycles at most."""

    def build(m: Module) -> list[Value]:
        bench = drive(m, kind(b"abc"))
        port, outer = bench.inside, bench.outer
        states = {name: port.state(name) for name in port.states()}
        place, block, found = port.signal("place"), port.signal("block"), port.signal("found")
        fetching, fetched, storing = port.signal("fetching"), port.signal("fetched"), port.signal("storing")
        left, tail = port.signal("left", "crc"), port.signal("tail")
        memory: Any = port.part("memory")
        read = memory._read_ports[0]._data
        sends, leaving = states["SEND"], _any(states, ("TAIL", "CLOSE", "DELIMIT", "SEND"))
        rank = Cat(
            (~fetching).as_unsigned() + (~fetched).as_unsigned(),
            left,
            storing & states["DELIMIT"],
            Mux(sends, block - place, 0)[:8],
            Mux(states["TAIL"], ~tail, 0)[:2],
            _pick({"TAIL": 4, "CLOSE": 3, "DELIMIT": 2, "SEND": 1}, states, 3),
        )
        stalled = outer["tx"][0] & ~outer["tx"][2]
        m.d.comb += Assert(
            ~previous(m, leaving & ~stalled) | (rank < previous(m, rank)), "a reply comes nearer to its end"
        )
        waits = states["RECEIVE"] & outer["rx"][0] & ~outer["rx"][2]
        m.d.comb += Assert(~previous(m, waits) | (left < previous(m, left)), "a byte is taken soon")
        # Invariants: a zero stands where the last block of the reply ends, and is read there
        at_block, at_place = port.word(Cat(block, Const(1)), "memory"), port.word(Cat(place, Const(1)), "memory")
        m.d.comb += [
            Assert(port.known(), "the FSM is in one of its states"),
            Assert(~(states["RECEIVE"] | sends) | (at_block == 0), "a zero ends the reply"),
            Assert(~(states["RECEIVE"] | sends) | ~storing, "nothing is stored any more"),
            Assert(~sends | (place <= block), "the reply is read up to its end"),
            Assert(~(sends & fetching) | (read == at_place), "the byte is fetched"),
            Assert(~(sends & fetched) | ((found == at_place) & fetching), "the byte is found"),
        ]
        return bench.free

    return build
