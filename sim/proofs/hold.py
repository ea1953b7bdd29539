"""The transfer rules of streams, as a harness that is made for any component.

For every stream that leaves: once `valid` is high it stays, with the same payload, until `ready`; and no path of gates leads
from `ready` to `valid` or the payload. Of every stream that comes the first is assumed.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from amaranth.hdl import Assert, Assume, Const, Cover, Module, Signal, Value
from amaranth.lib import stream, wiring

from tritape.sim.proofs.inside import Inside

Outer = dict[str, Any]
"""Signals outside a unit by the name of its port: a value, or of a stream valid, payload and ready."""


@dataclasses.dataclass(frozen=True)
class Unit:
    """A component as it is proved."""

    make: Callable[[], wiring.Component]
    depth: int = 12
    """Cycles of a bounded proof, or the longest k of an induction."""
    bounded: bool = False
    assume: Callable[[Module, Bench], list[Value]] = lambda m, b: []
    """What more its neighbours do, in every cycle; in words: `assumption`."""
    unless: Callable[[Bench], Value] = lambda b: Const(0)
    """When an element may be taken back; in words: `assumption`."""
    assumption: str = ""
    invariants: Callable[[Inside], list[Value]] = lambda i: []
    """What holds inside in every cycle, for an induction; it is proved with the rest."""
    quick: bool = False
    """It runs in `make test`."""
    hole: str = ""
    """Why nothing is proved of it."""


@dataclasses.dataclass(frozen=True)
class Port:
    """A leaf of a component's signature: a stream or a plain signal."""

    name: str
    value: Any
    inward: bool
    is_stream: bool


def ports(component: wiring.Component) -> Iterator[Port]:
    """Every stream and every plain port of a component; names of nested ones joined by `_`."""
    yield from _walk("", component.signature, component)


def _walk(prefix: str, signature: wiring.Signature, interface: Any) -> Iterator[Port]:
    for name, member in signature.members.items():
        yield from _spread(f"{prefix}{name}", member, getattr(interface, name), list(member.dimensions))


def _spread(name: str, member: wiring.Member, value: Any, dimensions: list[int]) -> Iterator[Port]:
    if dimensions:
        for index in range(dimensions[0]):
            yield from _spread(f"{name}_{index}", member, value[index], dimensions[1:])
    elif member.is_port or isinstance(member.signature, stream.Signature):
        yield Port(name, value, member.flow is wiring.In, not member.is_port)
    else:
        yield from _walk(f"{name}_", member.signature, value)


def bits(payload: Any) -> Value:
    """A payload as an unsigned value: structs and signed numbers too."""
    return Value.cast(payload).as_unsigned()


def previous(m: Module, value: Value) -> Signal:
    """`value` a cycle ago, 0 in the first one."""
    was = Signal(len(value))
    m.d.sync += was.eq(value)
    return was


def chosen(m: Module, width: int, name: str) -> Signal:
    """A number that the solver chooses once; the caller hands it on among the free ones."""
    value = Signal(width, name=name)
    constant(m, value)
    return value


def constant(m: Module, value: Value) -> None:
    """Assume that a value never changes."""
    m.d.comb += Assume(~previous(m, Const(1)) | (value == previous(m, value)), "a constant")


@dataclasses.dataclass(frozen=True)
class Bench:
    """A unit among neighbours that may do all that the rules allow."""

    inside: Inside
    outer: Outer
    free: list[Value]
    """What the solver chooses."""


def drive(m: Module, dut: wiring.Component, *, deaf: Sequence[str] = ()) -> Bench:
    """Give `dut` free inputs whose streams keep the rules.

    `deaf`: outputs whose `ready` does not reach the unit, which goes on as if it were high: a fault that a proof must find.
    """
    inside = Inside(dut)
    m.submodules.dut = inside.fragment
    outer: Outer = {}
    free: list[Value] = []
    for port in ports(dut):
        if not port.is_stream:
            if port.inward:
                given = Signal(len(Value.cast(port.value)), name=port.name)
                m.d.comb += bits(port.value).eq(given)
                free.append(given)
                outer[port.name] = given
            else:
                outer[port.name] = bits(port.value)
            continue
        payload = bits(port.value.payload)
        if port.inward:
            valid, given = Signal(name=f"{port.name}_valid"), Signal(len(payload), name=f"{port.name}_payload")
            m.d.comb += [port.value.valid.eq(valid), Value.cast(port.value.payload).eq(given)]
            free += [valid, given]
            waits, same = previous(m, valid & ~port.value.ready), given == previous(m, given)
            m.d.comb += Assume(~waits | (valid & same), f"{port.name} is held")
            outer[port.name] = (valid, given, port.value.ready)
        else:
            ready = Signal(name=f"{port.name}_ready")
            m.d.comb += port.value.ready.eq(1 if port.name in deaf else ready)
            free.append(ready)
            outer[port.name] = (port.value.valid, payload, ready)
    return Bench(inside, outer, free)


def held(m: Module, name: str, valid: Value, payload: Value, ready: Value) -> None:
    """Assert the first rule of a stream that leaves."""
    waits = previous(m, valid & ~ready)
    m.d.comb += Assert(~waits | valid, f"{name}.valid stays until ready")
    m.d.comb += Assert(~waits | ~valid | (payload == previous(m, payload)), f"{name}.payload stays until ready")


def streams_out(dut: wiring.Component) -> list[str]:
    """Names of the streams that leave."""
    return [port.name for port in ports(dut) if port.is_stream and not port.inward]


def rules(unit: Unit, *, deaf: bool = False) -> Callable[[Module], list[Value]]:
    """The harness: every stream that leaves keeps the first rule."""

    def build(m: Module) -> list[Value]:
        dut = unit.make()
        names = streams_out(dut)
        bench = drive(m, dut, deaf=names if deaf else ())
        for condition in unit.assume(m, bench):
            m.d.comb += Assume(condition, "assumption")
        for condition in unit.invariants(bench.inside):
            m.d.comb += Assert(condition, "invariant")
        ends = unit.unless(bench)
        for name in names:
            valid, payload, ready = bench.outer[name]
            held(m, name, valid, payload, ready | ends)
        return bench.free

    return build


def offers(unit: Unit) -> Callable[[Module], list[Value]]:
    """A harness whose cover statements are reached where every stream that leaves becomes valid before it was ever ready."""

    def build(m: Module) -> list[Value]:
        dut = unit.make()
        bench = drive(m, dut)
        for condition in unit.assume(m, bench):
            m.d.comb += Assume(condition, "assumption")
        for name in streams_out(dut):
            valid, _, ready = bench.outer[name]
            was = Signal(name=f"{name}_was_ready")
            m.d.sync += was.eq(was | ready)
            m.d.comb += Cover(valid & ~ready & ~was, f"{name} is offered")
        return bench.free

    return build
