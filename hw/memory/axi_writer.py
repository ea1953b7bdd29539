"""Writes bytes through AXI4 ports over which a memory is striped."""

from __future__ import annotations

from amaranth.hdl import Array, Module, Signal
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out

from tritape.hw.memory.axi_bus import ADDRESS_BITS, AXIWriteSignature
from tritape.hw.memory.word_bytes import ByteWrite


class AXIWriter(wiring.Component):
    """Collects bytes into beats of W = data_bits / 8 bytes and writes each beat with strobes, one at a time.

    Byte a belongs to lane a mod W of line floor(a / (W ports)) of port floor(a / W) mod ports; a beat is sent when its last
    lane or the last byte of a word is there, and its response awaited.

    Ports
        bytes: In stream, {address u40, data u8, last u1}; addresses ascend within a word.
        base: `ports` times In u40: the address of each port's line 0.
        idle: Out u1: nothing is collected or under way.
        error: Out u1, high for one cycle for every error response.
        axi: `ports` times `AXIWriteSignature`, from the manager.

    Streams: `bytes.ready` is a register. Rate: W bytes in W + 3 cycles and the memory's latency.
    Cost: 9 W + 80 flip-flops. Tested: 16 to 512 bits, 1 to 4 ports, words that end anywhere in a beat.
    """

    def __init__(self, data_bits: int, ports: int = 1) -> None:
        self.data_bits, self.ports = data_bits, ports
        super().__init__(
            {
                "bytes": In(stream.Signature(ByteWrite)),
                "base": In(ADDRESS_BITS).array(ports),
                "idle": Out(1),
                "error": Out(1),
                "axi": Out(AXIWriteSignature(data_bits)).array(ports),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        line_bytes = self.data_bits // 8
        bits, port_bits = line_bytes.bit_length() - 1, (self.ports - 1).bit_length()
        byte = self.bytes.payload
        lane = byte.address[:bits]
        port, line = Signal(max(1, port_bits)), Signal(ADDRESS_BITS)
        beat, strobes, address = Signal(self.data_bits), Signal(line_bytes), Signal(ADDRESS_BITS)
        answered = Array(axi.bvalid for axi in self.axi)[port]
        failed = Array(axi.bresp[1] for axi in self.axi)[port]
        for axi in self.axi:
            m.d.comb += [
                axi.awaddr.eq(address), axi.awsize.eq(bits), axi.awburst.eq(1), axi.awcache.eq(0b0011),
                axi.wdata.eq(beat), axi.wstrb.eq(strobes), axi.wlast.eq(1), axi.bready.eq(1),
            ]  # fmt: skip
            with m.If(axi.awready):
                m.d.sync += axi.awvalid.eq(0)
            with m.If(axi.wready):
                m.d.sync += axi.wvalid.eq(0)
        m.d.sync += self.error.eq(0)
        with m.FSM():
            with m.State("COLLECT"):
                m.d.comb += [self.bytes.ready.eq(1), self.idle.eq(~self.bytes.valid)]
                with m.If(self.bytes.valid):
                    m.d.sync += [
                        beat.word_select(lane, 8).eq(byte.data),
                        strobes.bit_select(lane, 1).eq(1),
                        port.eq(byte.address[bits : bits + port_bits]),
                        line.eq(byte.address[bits + port_bits :]),
                    ]
                    with m.If(byte.last | (lane == line_bytes - 1)):
                        m.next = "ADDRESS"
            with m.State("ADDRESS"):
                m.d.sync += address.eq(Array(self.base)[port] + (line << bits))
                with m.Switch(port):
                    for number, axi in enumerate(self.axi):
                        with m.Case(number):
                            m.d.sync += [axi.awvalid.eq(1), axi.wvalid.eq(1)]
                m.next = "ANSWER"
            with m.State("ANSWER"), m.If(answered):
                m.d.sync += [strobes.eq(0), self.error.eq(failed)]
                m.next = "COLLECT"
        return m
