"""Block RAM as the memory of a small model."""

from __future__ import annotations

from amaranth.hdl import Module, Signal
from amaranth.lib import wiring
from amaranth.lib.memory import Memory

from tritape.base.errors import TritapeError
from tritape.hw.assertion import check
from tritape.hw.memory.signature import MemorySignature, Request


class OnChipMemory(wiring.Component):
    """The tape of a small model in block RAM: `words` words of G bytes, read in runs at one word a cycle.

    Ports (`MemorySignature`)
        requests: In, {address u32, length u32}; what is read from `words` on has no meaning.
        words: Out, 8 G bits. One word a cycle, without a gap inside a request and from one request of at least two words
        to the next if that is there when the first one's last word is read. Length 0 gives nothing.
        write: In, {address u32, word 8 G bits}; always ready. Writing while a read is under way spoils that read, because one
        port of the block RAM serves both.
        write_failed: Out u1: the address is not below `words`; nothing is stored. read_failed: 0.

    Streams: `requests.ready` and `write.ready` are registers or constants; `words.valid` and its payload are registers.
    All stages stop while a word waits for `words.ready`.
    Latency: `LATENCY` = 4 cycles from a request's transfer to its first word.
    Cost: the block RAM, 8 G + about 100 flip-flops. Tested: G = 4, 13, 16; 1 to 300 words.
    `init` holds bytes in memory order, at most words * G of them; the rest is zero.
    Errors: `TritapeError` for groups, words or init out of range.
    """

    LATENCY = 4

    def __init__(self, groups: int, words: int, init: bytes | None = None) -> None:
        if groups < 4:
            raise TritapeError(f"groups must be at least 4, not {groups!r}")
        if words < 1:
            raise TritapeError(f"words must be at least 1, not {words!r}; the memory holds a tape")
        init = init or b""
        if len(init) > words * groups:
            raise TritapeError(f"init must be at most {words * groups} bytes, not {len(init)}; use a larger memory")
        self.groups = groups
        self.depth = max(2, words)
        self.init = [int.from_bytes(init[at : at + groups], "little") for at in range(0, len(init), groups)]
        super().__init__(MemorySignature(groups))

    def elaborate(self, platform: object) -> Module:
        m = Module()
        m.submodules.tape = memory = Memory(shape=8 * self.groups, depth=self.depth, init=self.init)
        write = memory.write_port()
        m.d.comb += [
            self.write.ready.eq(1),
            self.write_failed.eq(self.write.payload.address >= self.depth),
            write.en.eq(self.write.valid & ~self.write_failed),
            write.data.eq(self.write.payload.word),
        ]

        queued, queue = Signal(Request), Signal()  # one request in wait
        address, left = Signal(range(self.depth)), Signal(32)
        active, final = Signal(), Signal()  # the address is one to read; the last one of its request
        fetched = Signal()  # the block RAM's output is a word
        m.d.comb += self.requests.ready.eq(~queue)
        with m.If(self.requests.valid & self.requests.ready):
            m.d.sync += [queued.eq(self.requests.payload), queue.eq(1)]

        read = memory.read_port()
        advance = Signal()
        m.d.comb += [advance.eq(~self.words.valid | self.words.ready), read.en.eq(advance | self.write.valid)]
        with m.If(self.write.valid):  # one port for both: no logic for reading and writing the same word at once
            check(m, platform, ~(active | queue), "writing while a read is under way spoils that read")
            m.d.comb += [read.addr.eq(self.write.payload.address), write.addr.eq(read.addr)]
        with m.Else():
            m.d.comb += [read.addr.eq(address), write.addr.eq(read.addr)]
        with m.If(advance):
            m.d.sync += [fetched.eq(active), self.words.valid.eq(fetched), self.words.payload.eq(read.data)]
            m.d.sync += [address.eq(address + 1), left.eq(left - 1), final.eq(left == 2)]
            with m.If(~active | final):
                m.d.sync += [
                    address.eq(queued.address),
                    left.eq(queued.length),
                    final.eq(queued.length == 1),
                    active.eq(queue & (queued.length != 0)),
                ]
                with m.If(queue):
                    m.d.sync += queue.eq(0)
        return m
