"""Pulses that come from several units at different times become one."""

from __future__ import annotations

from amaranth.hdl import Cat, Module, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from tritape.hw.assertion import check


class PulseJoin(wiring.Component):
    """`joined` pulses once for every pulse that all of `pulses` have given; none is more than `AHEAD` before another.

    Ports: `pulses` In, one bit a unit; `joined` Out 1, a pulse.
    Latency: `LATENCY` cycle after the last unit's pulse. Cost: two flip-flops a unit. Tested: tests/test_hw_batch.py.
    """

    LATENCY = 1
    AHEAD = 3

    def __init__(self, count: int) -> None:
        super().__init__({"pulses": In(count), "joined": Out(1)})

    def elaborate(self, platform: object) -> Module:
        m = Module()
        counts = [Signal(range(self.AHEAD + 1), name=f"count_{index}") for index in range(len(self.pulses))]
        m.d.comb += self.joined.eq(Cat(count.any() for count in counts).all())
        for count, pulse in zip(counts, self.pulses):
            fits = (count != self.AHEAD) | ~pulse | self.joined
            check(m, platform, fits, f"no unit's pulses must be more than {self.AHEAD} before another's")
            m.d.sync += count.eq(count + pulse - self.joined)
        return m
