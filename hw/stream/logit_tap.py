"""Logits for the host, on their way to the head."""

from __future__ import annotations

from amaranth.hdl import Module, Signal, signed
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out


class LogitTap(wiring.Component):
    """Passes logits on; while `enable`, none passes before the one before was taken by the host.

    Ports
        source: In, sink: Out, streams of s18, the same elements
        enable: In, u1; when it falls, a logit that was not taken is forgotten
        logits: Out, stream of s18: the same elements again, one cycle later, while `enable` was high

    Cost: 19 flip-flops and three gates; `source.ready` goes through one of them. Tested: tests/test_hw_logit_tap.py.
    """

    def __init__(self) -> None:
        super().__init__(
            {
                "source": In(stream.Signature(signed(18))),
                "sink": Out(stream.Signature(signed(18))),
                "enable": In(1),
                "logits": Out(stream.Signature(signed(18))),
            }
        )

    def elaborate(self, _platform: object) -> Module:
        m = Module()
        held = Signal()
        m.d.comb += [
            self.sink.payload.eq(self.source.payload),
            self.sink.valid.eq(self.source.valid & ~held),
            self.source.ready.eq(self.sink.ready & ~held),
            self.logits.valid.eq(held),
        ]
        with m.If(self.source.valid & self.source.ready & self.enable):
            m.d.sync += [held.eq(1), self.logits.payload.eq(self.source.payload)]
        with m.If((held & self.logits.ready) | ~self.enable):
            m.d.sync += held.eq(0)
        return m
