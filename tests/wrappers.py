"""Test helpers around a component."""

from __future__ import annotations

from amaranth.hdl import Module
from amaranth.lib import wiring
from amaranth.lib.wiring import Out

from tritape.hw.stream.forward import forward


class CountPulses(wiring.Component):
    """`unit` with all its ports, and `count` (Out, 32): the cycles in which its output `pulse` was high."""

    def __init__(self, unit: wiring.Component, pulse: str) -> None:
        self._unit, self._pulse = unit, pulse
        self._ports = dict(unit.signature.members)
        super().__init__({**self._ports, "count": Out(32)})

    def elaborate(self, platform: object) -> Module:
        m = Module()
        m.submodules.unit = self._unit
        forward(m, self, self._unit, self._ports)
        m.d.sync += self.count.eq(self.count + getattr(self._unit, self._pulse))
        return m
