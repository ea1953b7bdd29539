"""One stream to several receivers that need not be in step."""

from __future__ import annotations

from typing import Any

from amaranth.hdl import Cat, Module, Signal
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out


class Broadcast(wiring.Component):
    """Every element goes to every receiver once; the next comes when the last one has taken it.

    Ports: `source` In stream and `targets`, `count` Out streams, all of `shape`.
    Latency: 0 cycles. Rate: one element a cycle while all are ready. `source.ready` is a function of all the targets'.
    Cost: a flip-flop and two LUT4 a receiver. Tested: 3 receivers under random stalls (tests/test_hw_batch.py).
    """

    LATENCY = 0

    def __init__(self, shape: Any, count: int) -> None:
        signature = stream.Signature(shape)
        super().__init__({"source": In(signature), "targets": Out(signature).array(count)})

    def elaborate(self, _platform: object) -> Module:
        m = Module()
        taken = Signal(len(self.targets))  # by whom, of the element that is there
        takes = Cat(target.ready for target in self.targets)
        m.d.comb += self.source.ready.eq((taken | takes).all())
        for index, target in enumerate(self.targets):
            m.d.comb += [target.payload.eq(self.source.payload), target.valid.eq(self.source.valid & ~taken[index])]
        with m.If(self.source.valid):
            m.d.sync += taken.eq(taken | takes)
            with m.If(self.source.ready):
                m.d.sync += taken.eq(0)
        return m
