"""CRC-32 of a stream of bytes, small rather than fast."""

from __future__ import annotations

from amaranth.hdl import Cat, Module, Mux, Signal
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out

from tritape.hw.tape.crc import POLYNOMIAL

RESIDUE = 0xDEBB20E3
"""The register after any bytes and their CRC, low byte first."""


class ByteCRC(wiring.Component):
    """zlib's CRC-32, one bit a cycle; the same polynomial as the tape's (`tritape.hw.tape.crc`).

    Ports
        bytes: In, stream of bytes; ready every ninth cycle
        restart: In, u1, while `bytes.ready`: forget all bytes so far; a byte of the same cycle is the first one
        state: Out, u32: the register; meaningful while `bytes.ready`. The CRC is its complement. Feeding the register's
            own low byte shifts it right by eight bits, which is how its bytes come out one after the other

    Cost: 44 flip-flops, about 55 LUT4. Tested against `zlib.crc32` inside `FramePort`. Source: IEEE 802.3.
    """

    def __init__(self) -> None:
        super().__init__({"bytes": In(stream.Signature(8)), "restart": In(1), "state": Out(32, init=0xFFFFFFFF)})

    def elaborate(self, _platform: object) -> Module:
        m = Module()
        byte = Signal(8)  # what is left of it
        left = Signal(8)  # a one for each bit that is left
        m.d.comb += self.bytes.ready.eq(~left[0])
        m.d.sync += [byte.eq(byte[1:]), left.eq(left[1:])]
        with m.If(left[0]):
            m.d.sync += self.state.eq(Cat(self.state[1:], 0) ^ Mux(self.state[0] ^ byte[0], POLYNOMIAL, 0))
        with m.Else():
            with m.If(self.restart):
                m.d.sync += self.state.eq(0xFFFFFFFF)
            m.d.sync += byte.eq(self.bytes.payload)
            with m.If(self.bytes.valid):
                m.d.sync += left.eq(0xFF)
        return m
