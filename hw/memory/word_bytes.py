"""Words to write, byte by byte: the link is slower than any memory, so its path is small and not wide."""

from __future__ import annotations

from amaranth.hdl import Module, Signal
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from tritape.hw.memory.signature import write_word
from tritape.hw.memory.times import times

ByteWrite = data.StructLayout({"address": 40, "data": 8, "last": 1})
"""One byte to write; `last` marks the last one of a word."""


class WordBytes(wiring.Component):
    """Turns a word at `address` into its G bytes at address * G .. address * G + G - 1, lowest first.

    Ports: write: In stream, {address u32, word 8 G bits}; bytes: Out stream, {address u40, data u8, last u1}.
    Streams: both sides are registers. Rate: a word in G + 1 cycles. Latency: `LATENCY` = 1 cycle.
    Cost: 8 G + 50 flip-flops, an adder for every further one in G's binary form. Tested: G = 4, 13, 26.
    """

    LATENCY = 1

    def __init__(self, groups: int) -> None:
        self.groups = groups
        super().__init__({"write": In(stream.Signature(write_word(groups))), "bytes": Out(stream.Signature(ByteWrite))})

    def elaborate(self, platform: object) -> Module:
        m = Module()
        rest, left, out = Signal(8 * self.groups), Signal(range(self.groups)), self.bytes.payload
        m.d.comb += [self.write.ready.eq(~self.bytes.valid), out.data.eq(rest[:8])]
        with m.If(self.bytes.valid & self.bytes.ready):
            m.d.sync += [rest.eq(rest >> 8), left.eq(left - 1), out.address.eq(out.address + 1), out.last.eq(left == 1)]
            m.d.sync += self.bytes.valid.eq(~out.last)
        with m.If(self.write.valid & self.write.ready):
            m.d.sync += [
                rest.eq(self.write.payload.word),
                out.address.eq(times(self.write.payload.address, self.groups)),
                out.last.eq(0),
                left.eq(self.groups - 1),
                self.bytes.valid.eq(1),
            ]
        return m
