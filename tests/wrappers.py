"""Test helpers around a component: count a pulse output, hold one stream back until another has got far enough."""

from __future__ import annotations

from collections.abc import Sequence

from amaranth.hdl import Const, Module, Mux, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from tritape.hw.stream.forward import forward


class _Around(wiring.Component):
    """`unit` with all its ports, and more outputs."""

    def __init__(self, unit: wiring.Component, **more: wiring.Member) -> None:
        self._unit = unit
        self._ports = dict(unit.signature.members)
        super().__init__({**self._ports, **more})

    def connected(self) -> Module:
        m = Module()
        m.submodules.unit = self._unit
        forward(m, self, self._unit, self._ports)
        return m


class CountPulses(_Around):
    """`unit` and `count` (Out, 32): the cycles in which its output `pulse` was high."""

    def __init__(self, unit: wiring.Component, pulse: str) -> None:
        self._pulse = pulse
        super().__init__(unit, count=Out(32))

    def elaborate(self, platform: object) -> Module:
        m = self.connected()
        m.d.sync += self.count.eq(self.count + getattr(self._unit, self._pulse))
        return m


class HoldBack(_Around):
    """`unit`, but element i of its stream `held` waits until its stream `until` has transferred `counts[i]` elements."""

    def __init__(self, unit: wiring.Component, held: str, until: str, counts: Sequence[int]) -> None:
        self._held, self._until, self._counts = held, until, counts
        super().__init__(unit)

    def elaborate(self, platform: object) -> Module:
        m = self.connected()
        outer, inner = getattr(self, self._held), getattr(self._unit, self._held)
        sender, receiver = (outer, inner) if self._ports[self._held].flow == In else (inner, outer)
        until = getattr(self._unit, self._until)
        transferred, index = Signal(32), Signal(range(len(self._counts) + 1))
        m.d.sync += transferred.eq(transferred + (until.valid & until.ready))
        m.d.sync += index.eq(index + (receiver.valid & receiver.ready))
        enough = Const(1)
        for element, count in enumerate(self._counts):
            enough = Mux(index == element, transferred >= count, enough)
        m.d.comb += [receiver.valid.eq(sender.valid & enough), sender.ready.eq(receiver.ready & enough)]
        return m
