"""One AXI4 port that reads long runs of lines ahead."""

from __future__ import annotations

from amaranth.hdl import Module, Mux, ResetInserter, Signal
from amaranth.lib import fifo, stream, wiring
from amaranth.lib.wiring import In, Out

from tritape.base.errors import TritapeError
from tritape.hw.memory.axi_bus import ADDRESS_BITS, BOUNDARY, MAX_BEATS, AXIReadSignature
from tritape.hw.memory.planner import Fetch


class AXIReader(wiring.Component):
    """Reads the lines base + line W .. of every fetch, W = data_bits / 8, in bursts (INCR) as long as they may be.

    A burst is asked for as soon as the FIFO has room for all of it, so data are never refused (`rready` is constant) and
    fetches follow each other without a gap. Bursts end at multiples of `burst` lines, which keeps the 4 KiB rule.

    Ports
        fetches: In stream, {line u32, count u32 at least 1}.
        lines: Out stream, data_bits: the lines of the fetches in order.
        base: In u40, a multiple of 4096: the address of line 0; constant while reading.
        restart: In u1: forget everything; data under way are dropped as they come, new fetches wait for the last of them.
        error: Out u1, high for one cycle for every line that came with an error response; the line is passed on (a tape
        has a CRC).
        axi: `AXIReadSignature`, from the manager.

    Streams: `fetches.ready` and `lines.valid` are registers.
    Rate: a line a cycle while the memory's latency is below `fifo_lines - burst` cycles.
    Latency: `LATENCY` = 3 cycles from a fetch to `arvalid`; `BUFFER_LATENCY` = 2 from `rvalid` to the line.
    Cost: a block RAM FIFO of `fifo_lines` lines, about 200 flip-flops. Tested: 16 to 512 bits, random stalls and errors.
    Errors: `TritapeError` for data_bits, burst or fifo_lines out of range.
    """

    LATENCY = 3
    BUFFER_LATENCY = 2

    def __init__(self, data_bits: int, burst: int | None = None, fifo_lines: int = 512) -> None:
        if data_bits not in (16, 32, 64, 128, 256, 512):
            raise TritapeError(f"data_bits must be a power of two in 16..512, not {data_bits!r}")
        longest = min(MAX_BEATS, BOUNDARY * 8 // data_bits)
        burst = burst or longest
        if not 1 <= burst <= longest or burst & (burst - 1):
            raise TritapeError(f"burst must be a power of two in 1..{longest} at {data_bits} bits, not {burst!r}")
        if fifo_lines < 2 * burst:
            raise TritapeError(f"fifo_lines must be at least two bursts ({2 * burst}), not {fifo_lines!r}")
        self.data_bits, self.burst, self.fifo_lines = data_bits, burst, fifo_lines
        super().__init__(
            {
                "fetches": In(stream.Signature(Fetch)),
                "lines": Out(stream.Signature(data_bits)),
                "base": In(ADDRESS_BITS),
                "restart": In(1),
                "error": Out(1),
                "axi": Out(AXIReadSignature(data_bits)),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        axi, bits, line_bytes = self.axi, self.burst.bit_length() - 1, self.data_bits // 8
        buffer = fifo.SyncFIFOBuffered(width=self.data_bits, depth=self.fifo_lines)
        m.submodules.buffer = ResetInserter(self.restart)(buffer)
        dropping = Signal()  # data of before the restart are still under way
        m.d.comb += [
            axi.arsize.eq(line_bytes.bit_length() - 1),
            axi.arburst.eq(1),
            axi.arcache.eq(0b0011),
            axi.rready.eq(1),
            buffer.w_data.eq(axi.rdata),
            buffer.w_en.eq(axi.rvalid & ~dropping),
        ]
        wiring.connect(m, buffer.r_stream, wiring.flipped(self.lines))
        m.d.sync += self.error.eq(axi.rvalid & axi.rresp[1])

        line, left = Signal(32), Signal(32)
        busy, planned, final = (
            Signal(),
            Signal(),
            Signal(),
        )  # a fetch; its next burst's size is known; it is the last one
        size, room = Signal(range(self.burst + 1)), Signal(range(self.burst + 1))
        free = Signal(range(self.fifo_lines + 1), init=self.fifo_lines)  # lines of the FIFO that no burst will fill
        under_way = Signal(range(self.fifo_lines + 1))  # lines asked for that have not come
        issue = Signal()
        m.d.comb += [
            self.fetches.ready.eq(~busy & ~dropping),
            room.eq(self.burst - line[:bits]),
            issue.eq(planned & ~axi.arvalid & (free >= size) & ~self.restart),
        ]
        m.d.sync += [
            free.eq(free - Mux(issue, size, 0) + (self.lines.valid & self.lines.ready)),
            under_way.eq(under_way + Mux(issue, size, 0) - axi.rvalid),
        ]
        with m.If(axi.arready):
            m.d.sync += axi.arvalid.eq(0)
        with m.If(self.fetches.valid & self.fetches.ready):
            m.d.sync += [line.eq(self.fetches.payload.line), left.eq(self.fetches.payload.count), busy.eq(1)]
        with m.Elif(busy & ~planned):
            m.d.sync += [final.eq(left <= room), size.eq(Mux(left <= room, left, room)), planned.eq(1)]
        with m.Elif(issue):
            m.d.sync += [
                axi.araddr.eq(self.base + line * line_bytes),
                axi.arlen.eq(size - 1),
                axi.arvalid.eq(1),
                line.eq(line + size),
                left.eq(left - size),
                planned.eq(0),
                busy.eq(~final),
            ]
        with m.If(dropping & (under_way == 0)):
            m.d.sync += dropping.eq(0)
        with m.If(self.restart):
            m.d.sync += [busy.eq(0), planned.eq(0), dropping.eq(1), free.eq(self.fifo_lines)]
        return m
