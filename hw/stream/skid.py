"""A register that ends the path of `ready` without adding a cycle."""

from __future__ import annotations

from amaranth.hdl import Module, Mux, ShapeLike, Signal
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out


class Skid(wiring.Component):
    """Bypass skid buffer: passes elements on in the same cycle and makes `ready` a register.

    An element that the receiver does not take waits in one register, and only then `ready` falls.

    Ports: `source` In stream and `sink` Out stream, both of `shape`.
    Latency: 0 cycles (one multiplexer). Rate: one element a cycle.
    Cost: one flip-flop and one LUT a bit.
    """

    LATENCY = 0

    def __init__(self, shape: ShapeLike) -> None:
        super().__init__({"source": In(stream.Signature(shape)), "sink": Out(stream.Signature(shape))})

    def elaborate(self, platform: object) -> Module:
        m = Module()
        held = Signal.like(self.source.payload)
        full = Signal()
        m.d.comb += [
            self.source.ready.eq(~full),
            self.sink.valid.eq(full | self.source.valid),
            self.sink.payload.eq(Mux(full, held, self.source.payload)),
        ]
        m.d.sync += full.eq(self.sink.valid & ~self.sink.ready)
        with m.If(~full):
            m.d.sync += held.eq(self.source.payload)
        return m
