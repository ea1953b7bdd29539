"""Commands that wait, so that the sequencer runs ahead of the units."""

from __future__ import annotations

from amaranth.hdl import Cat, Module, ShapeLike
from amaranth.lib import fifo, stream, wiring
from amaranth.lib.wiring import In, Out


class CommandQueue(wiring.Component):
    """A stream through a FIFO of `DEPTH` elements.

    Ports: `sender` In stream and `receiver` Out stream of the given shape.
    Latency: 2 cycles when empty. Cost: DEPTH + 1 elements of flip-flops or LUT RAM.
    """

    DEPTH = 4

    def __init__(self, shape: ShapeLike) -> None:
        super().__init__({"sender": In(stream.Signature(shape)), "receiver": Out(stream.Signature(shape))})

    def elaborate(self, platform: object) -> Module:
        m = Module()
        sender, receiver = self.sender, self.receiver
        m.submodules.queue = queue = fifo.SyncFIFOBuffered(width=len(Cat(sender.payload)), depth=self.DEPTH)
        m.d.comb += [
            queue.w_data.eq(sender.payload),
            queue.w_en.eq(sender.valid),
            sender.ready.eq(queue.w_rdy),
            Cat(receiver.payload).eq(queue.r_data),
            receiver.valid.eq(queue.r_rdy),
            queue.r_en.eq(receiver.ready),
        ]
        return m
