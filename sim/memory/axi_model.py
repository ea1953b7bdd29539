"""An AXI4 memory with a latency, for measurements; it is hardware, so it runs inside any simulator."""

from __future__ import annotations

from amaranth.hdl import Cat, Module, Mux, Signal, Value
from amaranth.lib import fifo, wiring
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import In, Out
from amaranth.utils import exact_log2

from tritape.base.errors import TritapeError
from tritape.hw.memory.axi import AXIMemory
from tritape.hw.memory.axi_bus import ADDRESS_BITS, ID_BITS, AXISignature
from tritape.hw.memory.signature import MemorySignature
from tritape.hw.stream.forward import forward
from tritape.sim.memory import pattern

OUTSTANDING = 16  # bursts that the model takes before the first one is answered


class AXIModel(wiring.Component):
    """Answers reads in order, a beat a cycle; the first beat of a burst not earlier than `latency` + r cycles after its
    address, r uniform in 0..jitter. Its contents are those of `pattern`.

    Ports: axi: `AXISignature`, from the memory; writes wait for ever. Errors: `TritapeError` for a jitter that is not 2^n - 1.
    """

    def __init__(self, data_bits: int, latency: int = 80, jitter: int = 0, seed: int = 1) -> None:
        if jitter < 0 or jitter & (jitter + 1) or jitter > 0xFFFF:
            raise TritapeError(f"jitter must be 2^n - 1 cycles, at most 65535, not {jitter!r}")
        self.data_bits, self.delay, self.jitter, self.seed = data_bits, latency, jitter, seed
        super().__init__({"axi": In(AXISignature(data_bits))})

    def line(self, m: Module, address: Value) -> Value:
        """Contents of the line at this byte address."""
        return pattern.line(address, self.data_bits // 8)

    def elaborate(self, platform: object) -> Module:
        m = Module()
        axi, line_bytes = self.axi, self.data_bits // 8
        now, noise = Signal(32), Signal(16, init=self.seed * 0x2B47 & 0xFFFF | 1)
        m.d.sync += now.eq(now + 1)
        m.d.sync += noise.eq(Cat(noise[1:], noise[0] ^ noise[2] ^ noise[3] ^ noise[5]))  # x^16 + x^14 + x^13 + x^11 + 1
        address, length, due, beat = Signal(ADDRESS_BITS), Signal(8), Signal(32), Signal(8)
        m.submodules.queue = queue = fifo.SyncFIFO(width=ADDRESS_BITS + 8 + 32 + ID_BITS, depth=OUTSTANDING)
        m.d.comb += [
            queue.w_data.eq(Cat(axi.araddr, axi.arlen, (now + self.delay + (noise & self.jitter))[:32], axi.arid)),
            queue.w_en.eq(axi.arvalid),
            axi.arready.eq(queue.w_rdy),
            Cat(address, length, due, axi.rid).eq(queue.r_data),
            axi.rvalid.eq(queue.r_rdy & ~(now - due)[31]),
            axi.rdata.eq(self.line(m, address + beat * line_bytes)),
            axi.rlast.eq(beat == length),
            queue.r_en.eq(axi.rvalid & axi.rready & axi.rlast),
        ]
        with m.If(axi.rvalid & axi.rready):
            m.d.sync += beat.eq(beat + 1)
            with m.If(axi.rlast):
                m.d.sync += beat.eq(0)
        return m


class AXIRAM(AXIModel):
    """An `AXIModel` of `lines` lines that can be written, in bursts of one beat; all zero at first.

    Ports: axi: `AXISignature`, from the memory. An address outside the memory is answered with an error.
    """

    def __init__(self, data_bits: int, lines: int, latency: int = 80, jitter: int = 0, seed: int = 1) -> None:
        self.lines = lines
        super().__init__(data_bits, latency, jitter, seed)
        self._memory = Memory(shape=data_bits, depth=lines, init=[])
        self._read = self._memory.read_port(domain="comb")
        self._write = self._memory.write_port(granularity=8)

    def line(self, m: Module, address: Value) -> Value:
        number = address >> exact_log2(self.data_bits // 8)
        m.d.comb += [self._read.addr.eq(number), self.axi.rresp.eq(Mux(number < self.lines, 0, 0b10))]
        return self._read.data

    def elaborate(self, platform: object) -> Module:
        m = super().elaborate(platform)
        m.submodules.memory = self._memory
        axi, write = self.axi, self._write
        number = axi.awaddr >> exact_log2(self.data_bits // 8)
        take = axi.awvalid & axi.wvalid & ~axi.bvalid
        inside = (number < self.lines) & (axi.awlen == 0)
        m.d.comb += [
            axi.awready.eq(take),
            axi.wready.eq(take),
            write.addr.eq(number),
            write.data.eq(axi.wdata),
            write.en.eq(Mux(take & inside, axi.wstrb, 0)),
        ]
        with m.If(axi.bready):
            m.d.sync += axi.bvalid.eq(0)
        with m.If(take):
            m.d.sync += [axi.bvalid.eq(1), axi.bresp.eq(Mux(inside, 0, 0b10)), axi.bid.eq(axi.awid)]
        return m


class AXIMemoryOnModels(wiring.Component):
    """An `AXIMemory` with an `AXIModel` at every port; all bases are 0, so each port has the same contents."""

    def __init__(self, groups: int, ports: int, port_bits: int, latency: int, jitter: int) -> None:
        self._memory = AXIMemory(groups, ports, port_bits)
        self._models = [AXIModel(port_bits, latency, jitter, seed) for seed in range(1, ports + 1)]
        super().__init__({**MemorySignature(groups).members, "errors": Out(16)})

    def elaborate(self, platform: object) -> Module:
        m = Module()
        m.submodules.memory = memory = self._memory
        forward(m, self, memory, self.signature.members)
        for number, (model, axi) in enumerate(zip(self._models, memory.axi)):
            m.submodules[f"model{number}"] = model
            wiring.connect(m, axi, model.axi)
        return m


def striped(start: int, size: int, ports: int, port_bits: int) -> bytes:
    """Bytes of the image that `AXIMemoryOnModels` shows."""
    lane = port_bits // 8
    first, last = start // (lane * ports), -(-(start + size) // (lane * ports))
    port = pattern.contents(first * lane, (last - first) * lane)
    image = b"".join(port[at : at + lane] * ports for at in range(0, len(port), lane))
    return image[start - first * lane * ports :][:size]
