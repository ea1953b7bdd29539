"""Memory behind 1..N AXI4 ports: Zynq and Kria HP ports, HBM channels, LiteDRAM."""

from __future__ import annotations

from amaranth.hdl import Cat, Module, ResetInserter, Signal
from amaranth.lib import fifo, wiring
from amaranth.lib.wiring import In, Out

from tritape.base.errors import TritapeError
from tritape.hw.memory.axi_bus import ADDRESS_BITS, AXISignature
from tritape.hw.memory.axi_reader import AXIReader
from tritape.hw.memory.axi_writer import AXIWriter
from tritape.hw.memory.faults import Cause
from tritape.hw.memory.gearbox import Gearbox
from tritape.hw.memory.planner import Planner
from tritape.hw.memory.signature import MemorySignature
from tritape.hw.memory.word_bytes import WordBytes
from tritape.hw.stream.forward import forward


class AXIMemory(wiring.Component):
    """The tape in memory behind AXI: words of G bytes from `ports` AXI4 ports of W = port_bits / 8 bytes each, read ahead.

    Striping: byte a of the image is byte a mod W of line floor(a / (W ports)) of port floor(a / W) mod ports; line i of
    port p is at base[p] + i W. So one line of every port is W * ports consecutive bytes of the image, and all ports read
    the same line numbers. With one port the image lies unchanged at base[0].

    Ports
        requests, words, read_failed, write, write_failed: `MemorySignature`. Requests wait while words are being written.
        restart: In u1: forget all requests; what is under way is dropped as it comes, a word being written is written,
        unless the bus does not answer.
        base: `ports` times In u40, multiples of 4096; constant while in use.
        errors: Out u16: beats with an error response, bursts of the wrong length, beats and responses that nothing asked for,
        requests and words outside the memory, all since reset, stopping at 65535.
        cause: Out u4: `Cause` of the latest of them.
        axi: `ports` times `AXISignature`, from the manager.
    `words`: those of the memory. What lies behind them is refused and never asked of a port.

    Faults: `AXIReader` and `AXIWriter` say what follows from each. After a restart nothing is read and nothing written while a
    port owes data or a response, for `AXIReader.QUIET` cycles of silence at most; then another identifier is used, and
    what comes later is dropped. So the bus must give identifiers back; `AXIReader` says what a bus without them is given.
    Streams: `words` and `write.ready` are registers.
    Rate: min(G, W ports) bytes a cycle on long requests (measured: `python -m tritape.sim.memory.measure axi`).
    Latency: `latency` cycles and the memory's, from a request to its first word.
    Cost: 761 LUT4, 1,339 flip-flops and 4 block RAMs of an ECP5 for G = 16, one port of 128 bits and 2^21 words.
    Tested: 1 to 4 ports of 16 to 512 bits, G = 5 to 64, with random latency, back-pressure, error responses and restarts
    (tests/test_hw_axi.py), each fault by itself (tests/test_hw_axi_faults.py), whole tokens (tests/test_hw_axi_tokens.py).
    Errors: `TritapeError` for ports that is no power of two, words out of range, and those of the parts.
    """

    def __init__(
        self,
        groups: int,
        ports: int = 1,
        port_bits: int = 128,
        burst: int | None = None,
        fifo_lines: int = 512,
        words: int = 1 << 32,
    ) -> None:
        if ports < 1 or ports & (ports - 1):
            raise TritapeError(f"ports must be a power of two, not {ports!r}")
        if not 1 <= words <= 1 << 32:
            raise TritapeError(f"words must be 1..{1 << 32}, not {words!r}; a tape's addresses have 32 bits")
        self.groups, self.port_bits = groups, port_bits
        self._readers = [AXIReader(port_bits, burst, fifo_lines) for _ in range(ports)]
        line_bytes = port_bits // 8 * ports
        self._planner, self._gearbox = Planner(line_bytes, groups, ports, words), Gearbox(line_bytes, groups)
        self._writer, self._bytes = AXIWriter(port_bits, ports), WordBytes(groups, words)
        self.latency = (
            Planner.LATENCY + AXIReader.LATENCY + AXIReader.BUFFER_LATENCY + Gearbox.latency(line_bytes, groups)
        )
        super().__init__(
            {
                **MemorySignature(groups).members,
                "restart": In(1),
                "base": In(ADDRESS_BITS).array(ports),
                "errors": Out(16),
                "cause": Out(Cause),
                "axi": Out(AXISignature(port_bits)).array(ports),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        reset = ResetInserter(self.restart)
        clock, tick = Signal(range(AXIReader.QUIET // 2)), Signal()  # of all ports' patience
        m.d.sync += [clock.eq(clock + 1), tick.eq(clock == 0)]
        planner, gearbox, readers, writer = self._planner, self._gearbox, self._readers, self._writer
        runs = fifo.SyncFIFO(width=len(Cat(planner.runs.payload)), depth=4)  # of requests that the readers are ahead
        m.submodules.planner, m.submodules.gearbox, m.submodules.runs = reset(planner), reset(gearbox), reset(runs)
        m.submodules.bytes, m.submodules.writer = bytes_, writer = self._bytes, writer
        forward(m, self, bytes_, ("write", "write_failed", "restart"))
        wiring.connect(m, bytes_.bytes, writer.bytes)
        m.d.comb += [bytes_.byte_failed.eq(writer.failed), writer.restart.eq(self.restart), writer.tick.eq(tick)]

        wiring.connect(m, wiring.flipped(self.requests), planner.requests)
        with m.If(~writer.idle | self.write.valid):  # valid and ready only: gates for the payload would cost 64 LUTs
            m.d.comb += [planner.requests.valid.eq(0), self.requests.ready.eq(0)]
        m.d.comb += [
            runs.w_data.eq(planner.runs.payload),
            runs.w_en.eq(planner.runs.valid),
            planner.runs.ready.eq(runs.w_rdy),
            Cat(gearbox.runs.payload).eq(runs.r_data),
            gearbox.runs.valid.eq(runs.r_rdy),
            runs.r_en.eq(gearbox.runs.ready),
        ]
        whole = Cat(reader.lines.valid for reader in readers).all()  # every port's part of a line is there
        m.d.comb += [
            gearbox.lines.payload.eq(Cat(reader.lines.payload for reader in readers)),
            gearbox.lines.valid.eq(whole),
        ]
        wiring.connect(m, gearbox.words, wiring.flipped(self.words))
        for number, (reader, axi) in enumerate(zip(readers, self.axi)):
            m.submodules[f"reader{number}"] = reader
            wiring.connect(m, planner.fetches[number], reader.fetches)
            m.d.comb += [
                reader.restart.eq(self.restart),
                reader.tick.eq(tick),
                reader.base.eq(self.base[number]),
                writer.base[number].eq(self.base[number]),
                reader.lines.ready.eq(gearbox.lines.ready & whole),
            ]
            for part in (reader.axi, writer.axi[number]):
                forward(m, axi, part, part.signature.members)
        self._count_errors(m)
        return m

    def _count_errors(self, m: Module) -> None:
        """Tell the accelerator of errors in the cycle after them, and the host of their number and kind."""
        readers, writer, planner = self._readers, self._writer, self._planner
        refused = Signal()  # a request or a word outside
        m.d.comb += refused.eq(planner.refused | self._bytes.refused)
        failed = Signal(range(len(readers) + 2))
        total = self.errors + failed
        m.d.sync += [
            failed.eq(sum(reader.error for reader in readers) + (writer.error | refused)),
            self.read_failed.eq(Cat(*(reader.error for reader in readers), planner.refused).any() & ~self.restart),
        ]
        with m.If(total[16:].any()):
            m.d.sync += self.errors.eq(0xFFFF)
        with m.Else():
            m.d.sync += self.errors.eq(total)
        causes = [(reader.error, reader.cause) for reader in readers]
        for error, cause in (*causes, (writer.error, writer.cause), (refused, Cause.OUTSIDE)):
            with m.If(error):
                m.d.sync += self.cause.eq(cause)
