"""Two registers between a sender and a receiver that are far apart."""

from __future__ import annotations

from typing import Any

from amaranth.hdl import Module, Signal
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out


class StreamBuffer(wiring.Component):
    """Passes a stream on unchanged; cuts every path between its two sides.

    Ports: sender: In stream, receiver: Out stream, of the given shape.
    `sender.ready`, `receiver.valid` and the payload are registers. Rate: one element a cycle.
    Latency: `LATENCY` = 1 cycle. Cost: two flip-flops and one LUT4 a bit. Errors: none.
    """

    LATENCY = 1

    def __init__(self, shape: Any) -> None:
        super().__init__({"sender": In(stream.Signature(shape)), "receiver": Out(stream.Signature(shape))})

    def elaborate(self, platform: object) -> Module:
        m = Module()
        sender, receiver = self.sender, self.receiver
        spare, full = Signal.like(sender.payload), Signal()  # what came while the receiver was not ready
        m.d.comb += sender.ready.eq(~full)
        with m.If(~full):
            m.d.sync += spare.eq(sender.payload)
        with m.If(~receiver.valid | receiver.ready):
            m.d.sync += [receiver.valid.eq(full | sender.valid), full.eq(0)]
            with m.If(full):
                m.d.sync += receiver.payload.eq(spare)
            with m.Else():
                m.d.sync += receiver.payload.eq(sender.payload)
        with m.Else():
            m.d.sync += full.eq(full | sender.valid)
        return m
