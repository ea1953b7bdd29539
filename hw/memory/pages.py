"""Block RAM as the memory of a model that fills most of a device, at the speed of its logic."""

from __future__ import annotations

from amaranth.hdl import Array, Module, Signal
from amaranth.lib import fifo, wiring
from amaranth.lib.memory import Memory

from tritape.base.errors import TritapeError
from tritape.hw.memory.signature import MemorySignature, Request


class PagedMemory(wiring.Component):
    """The tape of a model that fills most of a device: `words` words of G bytes in pages of block RAM, read at one word a cycle.

    `OnChipMemory` is smaller, but its block RAMs stop with the reader, and a multiplexer of all rows of them stands in one
    cycle. Here they run freely: a read starts when the output queue has room for its word, each page has a register behind
    it, the multiplexer reads those and has a register of its own. No path leads from `words.ready` to a block RAM.

    Ports (`MemorySignature`)
        requests: In, {address u32, length u32}; what is read from `words` on has no meaning.
        words: Out, 8 G bits. One word a cycle, without a gap inside a request and from one request of at least two words
        to the next if that waits by then. Length 0 gives nothing.
        write: In, {address u32, word 8 G bits}; always ready, stored a cycle later. Not while a read is under way.
        write_failed: Out u1: the address is not below `words`; nothing is stored. read_failed: 0.

    Streams: `requests.ready` is a register; `words.valid` and its payload are registers.
    Latency: `LATENCY` = 8 cycles from a request's transfer to its first word.
    Cost: the block RAM; 8 G flip-flops for each page and 24 G for the rest; distributed RAM for `QUEUE` words.
    Tested: G = 4 and 13, pages of 8 to 64 words, 1 to 300 words. `init`: as `OnChipMemory`.
    Errors: `TritapeError` for groups, words or init out of range.
    """

    LATENCY = 8
    QUEUE = 16
    """Words in the output queue: more than a read takes, so that credit for the next ones is back in time."""

    def __init__(self, groups: int, words: int, init: bytes = b"", *, page: int = 2048) -> None:
        if groups < 4:
            raise TritapeError(f"groups must be at least 4, not {groups!r}; a tape word has no fewer bytes")
        if words < 1:
            raise TritapeError(f"words must be at least 1, not {words!r}; the memory holds a tape")
        if len(init) > words * groups:
            raise TritapeError(f"init must be at most {words * groups} bytes, not {len(init)}; use a larger memory")
        if page < 2 or page & (page - 1):
            raise TritapeError(
                f"page must be a power of two from 2 on, not {page!r}; 2048 is the depth of a block RAM of 9 bits"
            )
        self.groups = groups
        self.depth = words
        self.page = page
        self.init = [int.from_bytes(init[at : at + groups], "little") for at in range(0, len(init), groups)]
        super().__init__(MemorySignature(groups))

    def elaborate(self, platform: object) -> Module:
        m = Module()
        pages = -(-self.depth // self.page)
        address, issue = self._requests(m, pages * self.page)

        # Three registers: address, page, multiplexer.
        inside, page = Signal(range(self.page)), Signal(range(pages))
        read = [Signal(name=f"read_{stage}") for stage in range(4)]
        chosen = [Signal.like(page, name=f"chosen_{stage}") for stage in range(2)]
        word = Signal(8 * self.groups)
        m.d.sync += [
            inside.eq(address[: inside.shape().width]),
            page.eq(address[inside.shape().width :]),
            *(to.eq(source) for to, source in zip(read, (issue, *read))),
            *(to.eq(source) for to, source in zip(chosen, (page, *chosen))),
            word.eq(Array(self._pages(m, pages, inside))[chosen[1]]),
        ]
        m.submodules.queue = queue = fifo.SyncFIFOBuffered(width=8 * self.groups, depth=self.QUEUE)
        m.d.comb += [
            queue.w_en.eq(read[3]),
            queue.w_data.eq(word),
        ]
        wiring.connect(m, queue.r_stream, wiring.flipped(self.words))
        return m

    def _requests(self, m: Module, depth: int) -> tuple[Signal, Signal]:
        """The address of each read, and whether it is one: there is room for its word."""
        queued, waiting = Signal(Request), Signal()
        address, left, active = Signal(range(depth)), Signal(32), Signal()
        final, issue = Signal(), Signal()
        room = Signal(range(self.QUEUE + 1), init=self.QUEUE)
        taken = Signal()
        m.d.comb += [
            self.requests.ready.eq(~waiting),
            issue.eq(active & (room != 0)),
            taken.eq(self.words.valid & self.words.ready),
        ]
        m.d.sync += room.eq(room - issue + taken)
        with m.If(self.requests.valid & ~waiting):
            m.d.sync += [queued.eq(self.requests.payload), waiting.eq(1)]
        with m.If(issue):
            m.d.sync += [address.eq(address + 1), left.eq(left - 1), final.eq(left == 2)]
        with m.If(~active | (issue & final)):
            m.d.sync += [
                address.eq(queued.address),
                left.eq(queued.length),
                final.eq(queued.length == 1),
                active.eq(waiting & (queued.length != 0)),
            ]
            with m.If(waiting):
                m.d.sync += waiting.eq(0)
        return address, issue

    def _pages(self, m: Module, pages: int, inside: Signal) -> list[Signal]:
        """The block RAMs: what each page held at `inside` two cycles ago. Writes come a cycle late, from registers."""
        where, word = Signal(range(self.page)), Signal(8 * self.groups)
        target = self.write.payload.address[where.shape().width :]
        held = self.write.payload.address < self.depth
        m.d.comb += [self.write.ready.eq(1), self.write_failed.eq(~held)]
        m.d.sync += [where.eq(self.write.payload.address), word.eq(self.write.payload.word)]
        outputs = []
        for number in range(pages):
            first = number * self.page
            memory = Memory(
                shape=8 * self.groups,
                depth=max(2, min(self.page, self.depth - first)),
                init=self.init[first : first + self.page],
                attrs={"no_rw_check": 1},
            )
            m.submodules[f"page_{number}"] = memory
            reader, writer = memory.read_port(), memory.write_port()
            output = Signal(8 * self.groups, name=f"output_{number}")
            outputs.append(output)
            m.d.comb += [reader.addr.eq(inside), writer.addr.eq(where), writer.data.eq(word)]
            m.d.sync += [writer.en.eq(self.write.valid & held & (target == number)), output.eq(reader.data)]
        return outputs
