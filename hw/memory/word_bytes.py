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
    """Gives a memory that is written in bytes the word at `address`: bytes address * G .. address * G + G - 1, lowest first.

    Ports
        write: In stream, {address u32, word 8 G bits}. A word is transferred a cycle after its last byte.
        write_failed: Out u1, as in `MemorySignature`: the word lies outside the memory, then no byte of it was given on, or
        `byte_failed` was high in the transfer of one of its bytes.
        refused: Out u1, one cycle for a word outside.
        restart: In u1: a word under way is given on to its end, but not transferred any more, and can be taken back.
        bytes: Out stream, {address u40, data u8, last u1}.
        byte_failed: In u1.
    `words`: addresses from here on are outside.

    Streams: both sides are registers. Rate: a word in G + 2 cycles. Latency: `LATENCY` = 1 cycle to the first byte.
    Cost: 8 G + 50 flip-flops, an adder for every further one in G's binary form. Tested: G = 4, 13, 26.
    """

    LATENCY = 1

    def __init__(self, groups: int, words: int = 1 << 32) -> None:
        self.groups, self.words = groups, words
        super().__init__(
            {
                "write": In(stream.Signature(write_word(groups))),
                "write_failed": Out(1),
                "refused": Out(1),
                "restart": In(1),
                "bytes": Out(stream.Signature(ByteWrite)),
                "byte_failed": In(1),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        rest, left, out = Signal(8 * self.groups), Signal(range(self.groups)), self.bytes.payload
        word, outside, given_up = self.write.payload, Signal(), Signal()
        m.d.comb += [out.data.eq(rest[:8]), outside.eq(word.address >= self.words)]
        m.d.sync += [self.write.ready.eq(0), self.refused.eq(0)]
        with m.If(self.bytes.valid & self.bytes.ready):
            m.d.sync += [rest.eq(rest >> 8), left.eq(left - 1), out.address.eq(out.address + 1), out.last.eq(left == 1)]
            m.d.sync += self.write_failed.eq(self.write_failed | self.byte_failed)
            with m.If(out.last):
                m.d.sync += [self.bytes.valid.eq(0), self.write.ready.eq(~given_up & ~self.restart)]
        with m.Elif(self.write.valid & ~self.bytes.valid & ~self.write.ready & ~self.restart):
            m.d.sync += [
                rest.eq(word.word),
                out.address.eq(times(word.address, self.groups)),
                out.last.eq(0),
                left.eq(self.groups - 1),
                given_up.eq(0),
                self.bytes.valid.eq(~outside),
                self.write.ready.eq(outside),
                self.refused.eq(outside),
                self.write_failed.eq(outside),
            ]
        with m.If(self.restart & self.bytes.valid):
            m.d.sync += given_up.eq(1)
        return m
