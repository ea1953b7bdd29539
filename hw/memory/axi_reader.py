"""One AXI4 port that reads long runs of lines ahead."""

from __future__ import annotations

from amaranth.hdl import Module, Mux, ResetInserter, Signal, Value
from amaranth.lib import fifo, stream, wiring
from amaranth.lib.wiring import In, Out

from tritape.base.errors import TritapeError
from tritape.hw.assertion import check
from tritape.hw.memory.axi_bus import ADDRESS_BITS, BOUNDARY, MAX_BEATS, AXIReadSignature
from tritape.hw.memory.faults import Cause
from tritape.hw.memory.planner import Fetch


class AXIReader(wiring.Component):
    """Keeps one AXI4 port busy: reads the lines base + line W .. of every fetch, W = data_bits / 8, in bursts as long as may be.

    A burst (INCR) is asked for as soon as the FIFO has room for all of it, so data are never refused (`rready` is constant) and
    fetches follow each other without a gap. Bursts end at multiples of `burst` lines, which keeps the 4 KiB rule.

    A beat with an error response is told and passed on. After a burst of the wrong length, or a beat that nothing asked for,
    lines could be at the wrong place: no more are passed on, and no burst is asked for, until the next restart. A restart
    waits until the bus has given back what it owes: every burst's last beat and every beat. After at most `QUIET` cycles
    without a beat, and at least half as many, it gives the rest up and takes another identifier: beats of any other one are
    dropped, whenever they come. After 2^`ID_BITS` such restarts an identifier has its turn again; a memory that takes fewer
    bursts than that before it answers owes nothing of that age. What cannot be given up is an address that the bus
    does not take, and a bus that answers nothing more behind a lost burst stays silent: its own reset is the cure.
    A memory without identifiers gets `rid` from `arid`: then a beat later than the restart's end is taken for a new one.

    Ports
        fetches: In stream, {line u32, count u32 at least 1}.
        lines: Out stream, data_bits: the lines of the fetches in order.
        base: In u40, a multiple of 4096: the address of line 0; constant while reading.
        restart: In u1: forget everything; data under way are dropped as they come, new fetches wait for the last of them.
        tick: In u1, high for one cycle in every `QUIET` / 2.
        error: Out u1, high for one cycle for every beat with an error response and every broken rule, unless it is dropped.
        cause: Out u4, `Cause` of `error`.
        axi: `AXIReadSignature`, from the manager.

    Streams: `fetches.ready` and `lines.valid` are registers.
    Rate: a line a cycle while the memory's latency is below `fifo_lines - burst` cycles.
    Latency: `LATENCY` = 3 cycles from a fetch to `arvalid`; `BUFFER_LATENCY` = 2 from `rvalid` to the line.
    Cost: a block RAM FIFO of `fifo_lines` lines, LUT RAM for 16 lengths of bursts, about 220 flip-flops.
    Tested: 16 to 512 bits, random stalls and errors; every fault by itself, and its end (tests/test_hw_axi_faults.py).
    Errors: `TritapeError` for data_bits, burst or fifo_lines out of range.
    """

    LATENCY = 3
    BUFFER_LATENCY = 2
    QUIET = 1024

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
                "tick": In(1),
                "error": Out(1),
                "cause": Out(Cause),
                "axi": Out(AXIReadSignature(data_bits)),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        dropping = Signal()  # data of before the restart are still under way
        broken = Signal()  # a rule was broken: nothing that comes can be trusted
        size, issue = Signal(range(self.burst + 1)), Signal()
        with m.If(self.fetches.valid):
            check(m, platform, self.fetches.payload.count != 0, "count must be at least 1")
            check(m, platform, self.base[:12] == 0, "base must be a multiple of 4096")
        settled, given_up, room = self._receive(m, issue, size, dropping, broken)
        self._ask(m, issue, size, room & ~broken, dropping)
        with m.If(dropping & settled):
            m.d.sync += [dropping.eq(0), broken.eq(0), self.axi.arid.eq(self.axi.arid + given_up)]
        with m.If(self.restart):
            m.d.sync += dropping.eq(1)
        return m

    def _ask(self, m: Module, issue: Signal, size: Signal, may: Value, dropping: Signal) -> None:
        """Cut fetches into bursts; `issue` one of `size` lines when the FIFO has room and `may` allows it."""
        axi, bits, line_bytes = self.axi, self.burst.bit_length() - 1, self.data_bits // 8
        line, left, room = Signal(32), Signal(32), Signal(range(self.burst + 1))
        busy, planned, final = (
            Signal(),
            Signal(),
            Signal(),
        )  # a fetch; its next burst's size is known; it is the last one
        free = Signal(range(self.fifo_lines + 1), init=self.fifo_lines)  # lines of the FIFO that no burst will fill
        m.d.comb += [
            axi.arsize.eq(line_bytes.bit_length() - 1),
            axi.arburst.eq(1),
            axi.arcache.eq(0b0011),
            self.fetches.ready.eq(~busy & ~dropping),
            room.eq(self.burst - line[:bits]),
            issue.eq(planned & ~axi.arvalid & (free >= size) & may & ~self.restart),
        ]
        m.d.sync += free.eq(free - Mux(issue, size, 0) + (self.lines.valid & self.lines.ready))
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
        with m.If(self.restart):
            m.d.sync += [busy.eq(0), planned.eq(0), free.eq(self.fifo_lines)]

    def _receive(
        self, m: Module, issue: Signal, size: Signal, dropping: Signal, broken: Signal
    ) -> tuple[Value, Value, Value]:
        """Judge what comes and pass on what is right. Returns whether a restart may end, whether it then gives up what the bus
        owes, and whether one more burst may be."""
        axi = self.axi
        buffer = fifo.SyncFIFOBuffered(width=self.data_bits, depth=self.fifo_lines)
        m.submodules.buffer = ResetInserter(self.restart)(buffer)
        wiring.connect(m, buffer.r_stream, wiring.flipped(self.lines))
        settled, quiet, given_up = Signal(), Signal(), Signal()
        lengths = fifo.SyncFIFO(
            width=8, depth=max(16, 2 * self.fifo_lines // self.burst)
        )  # of the bursts asked for, less one
        m.submodules.lengths = ResetInserter(dropping & settled)(lengths)
        under_way = Signal(
            range(self.fifo_lines + 1)
        )  # lines asked for that have not come; nonsense after one not asked for
        beat, known, whole, given = Signal(8), lengths.r_rdy, Signal(), Signal()
        m.d.comb += [
            axi.rready.eq(1),
            given.eq(axi.rvalid & (axi.rid == axi.arid)),
            whole.eq(beat == lengths.r_data),
            lengths.w_en.eq(issue),
            lengths.w_data.eq(size - 1),
            lengths.r_en.eq(given & axi.rlast),
            buffer.w_data.eq(axi.rdata),
            buffer.w_en.eq(given & known & ~dropping & ~broken),
            given_up.eq(quiet & self.tick & ~axi.arvalid),
            settled.eq(((under_way == 0) & ~known) | given_up),
        ]
        m.d.sync += [
            under_way.eq(under_way + Mux(issue, size, 0) - given),
            quiet.eq(dropping & ~given & (quiet | self.tick)),
            self.error.eq(given & axi.rresp[1] & ~dropping & ~self.restart),
            self.cause.eq(Mux(axi.rresp[0], Cause.DECERR, Cause.SLVERR)),
        ]
        with m.If(given):
            m.d.sync += beat.eq(Mux(axi.rlast, 0, beat + 1))
            with m.If(~dropping & ~broken & ~self.restart & ~(known & (axi.rlast == whole))):
                m.d.sync += [broken.eq(1), self.error.eq(1)]
                m.d.sync += self.cause.eq(Mux(known, Mux(axi.rlast, Cause.EARLY, Cause.LATE), Cause.UNEXPECTED))
        with m.If(dropping & settled):
            m.d.sync += [beat.eq(0), under_way.eq(0)]
        return settled, given_up, lengths.w_rdy
