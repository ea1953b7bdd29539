"""Writes bytes through AXI4 ports over which a memory is striped."""

from __future__ import annotations

from amaranth.hdl import Array, Cat, Module, Signal
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out

from tritape.hw.memory.axi_bus import ADDRESS_BITS, ID_BITS, AXIWriteSignature
from tritape.hw.memory.faults import Cause
from tritape.hw.memory.word_bytes import ByteWrite


class AXIWriter(wiring.Component):
    """Stores what the host loads: collects bytes into beats of W = data_bits / 8 bytes, writes each with strobes, one at a time.

    Byte a belongs to lane a mod W of line floor(a / (W ports)) of port floor(a / W) mod ports; a beat is sent when its last
    lane or the last byte of a word is there.

    Ports
        bytes: In stream, {address u40, data u8, last u1}; addresses ascend within a word. The byte that completes a beat is
        transferred when the beat's response has come.
        failed: Out u1, in the transfer of a byte that completes a beat: the response was an error.
        base: `ports` times In u40: the address of each port's line 0.
        idle: Out u1: nothing is collected or under way.
        restart: In u1: nobody waits for the word under way. If a beat of it is not answered, it is given up and the rest of
        the word dropped: after two ticks, when address and beat were taken, which cannot be taken back.
        tick: In u1, high for one cycle in every `AXIReader.QUIET` / 2.
        error: Out u1, high for one cycle for every error response, and for one that nothing asked for.
        After what was given up another identifier is taken; answers of any other one are dropped, as `AXIReader` does it.
        cause: Out u4, `Cause` of `error`.
        axi: `ports` times `AXIWriteSignature`, from the manager.

    Streams: `bytes.ready` depends on the byte. Rate: W bytes in W + 4 cycles and the memory's latency.
    Cost: 9 W + 80 flip-flops. Tested: 16 to 512 bits, 1 to 4 ports, words that end anywhere in a beat, error responses.
    """

    def __init__(self, data_bits: int, ports: int = 1) -> None:
        self.data_bits, self.ports = data_bits, ports
        super().__init__(
            {
                "bytes": In(stream.Signature(ByteWrite)),
                "failed": Out(1),
                "base": In(ADDRESS_BITS).array(ports),
                "idle": Out(1),
                "restart": In(1),
                "tick": In(1),
                "error": Out(1),
                "cause": Out(Cause),
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
        completes = byte.last | (lane == line_bytes - 1)
        # A response counts once address and data were taken.
        mine = [axi.bvalid & (axi.bid == axi.awid) for axi in self.axi]
        answers = Cat(answer & ~axi.awvalid & ~axi.wvalid for answer, axi in zip(mine, self.axi))
        left, quiet, given_up = Signal(), Signal(), Signal()  # nobody waits for the word; a tick was; one more
        waiting, refused, stray = Signal(self.ports), Signal(), Signal()  # the ports that owe a response: at most one
        m.d.comb += [
            refused.eq(Array(axi.bresp[1] for axi in self.axi)[port]),
            stray.eq(Cat(its & ~(answer & owes) for its, answer, owes in zip(mine, answers, waiting)).any()),
            given_up.eq(quiet & self.tick),
        ]
        identifier = self._drive(m, address, beat, strobes)
        m.d.sync += [self.error.eq(stray), self.cause.eq(Cause.UNEXPECTED), self.failed.eq(0), quiet.eq(0)]
        with m.If(self.restart):
            m.d.sync += left.eq(1)
        with m.If(self.idle):
            m.d.sync += left.eq(0)
        with m.FSM():
            with m.State("COLLECT"):
                m.d.comb += [self.bytes.ready.eq(~completes), self.idle.eq(~self.bytes.valid)]
                with m.If(self.bytes.valid):
                    m.d.sync += [
                        beat.word_select(lane, 8).eq(byte.data),
                        strobes.bit_select(lane, 1).eq(1),
                        port.eq(byte.address[bits : bits + port_bits]),
                        line.eq(byte.address[bits + port_bits :]),
                    ]
                    with m.If(completes):
                        m.next = "ADDRESS"
            with m.State("ADDRESS"):
                m.d.sync += address.eq(Array(self.base)[port] + (line << bits))
                with m.Switch(port):
                    for number, axi in enumerate(self.axi):
                        with m.Case(number):
                            m.d.sync += [axi.awvalid.eq(1), axi.wvalid.eq(1), waiting[number].eq(1)]
                m.next = "ANSWER"
            with m.State("ANSWER"):
                offered = Cat(axi.awvalid | axi.wvalid for axi in self.axi).any()
                m.d.sync += quiet.eq(left & ~offered & (quiet | self.tick))
                with m.If((answers & waiting).any()):
                    m.d.sync += [strobes.eq(0), waiting.eq(0), self.failed.eq(refused)]
                    with m.If(refused):
                        m.d.sync += [self.error.eq(1), self.cause.eq(Cause.WRITE)]
                    m.next = "STORED"
                with m.Elif(given_up):
                    m.d.sync += [strobes.eq(0), waiting.eq(0), identifier.eq(identifier + 1)]
                    m.next = "DROP"
            with m.State("DROP"):
                m.d.comb += self.bytes.ready.eq(1)
                with m.If(self.bytes.valid & byte.last):
                    m.next = "COLLECT"
            with m.State("STORED"):
                m.d.comb += self.bytes.ready.eq(1)
                m.next = "COLLECT"
        return m

    def _drive(self, m: Module, address: Signal, beat: Signal, strobes: Signal) -> Signal:
        """What all ports have in common. Returns the register of their identifier."""
        identifier = Signal(ID_BITS)
        for axi in self.axi:
            m.d.comb += [
                axi.awid.eq(identifier),
                axi.awaddr.eq(address), axi.awsize.eq((self.data_bits // 8).bit_length() - 1), axi.awburst.eq(1),
                axi.awcache.eq(0b0011), axi.wdata.eq(beat), axi.wstrb.eq(strobes), axi.wlast.eq(1), axi.bready.eq(1),
            ]  # fmt: skip
            with m.If(axi.awready):
                m.d.sync += axi.awvalid.eq(0)
            with m.If(axi.wready):
                m.d.sync += axi.wvalid.eq(0)
        return identifier
