"""Registers of a memory's controller, behind the memory's own ports: the host starts the memory over the link it has."""

from __future__ import annotations

from amaranth.hdl import Module, Mux, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from tritape.base.errors import TritapeError
from tritape.hw.assertion import check
from tritape.hw.memory.signature import MemorySignature

WINDOW = 1 << 31
"""Word addresses from here on are registers."""


class RegisterWindow(wiring.Component):
    """Lets the host start a DDR3 over the link: words written at `WINDOW` + n go to Wishbone address n, the rest to the memory.

    Ports
        requests, words, read_failed, write, write_failed: `MemorySignature`, from the accelerator. Of a word written to a
        register the low 32 bits count. A request at `WINDOW` or above is for one word, 1 when `started`, else 0, and must
        wait until the words of earlier requests are taken.
        memory: `MemorySignature`, to the memory.
        started: In u1.
        closed: In u1: the memory cannot be used yet: what is asked of it or written to it is refused.
        adr: Out u16; dat_w: Out u32; cyc, stb, we: the same Out u1; ack: In u1: Wishbone, one write at a time.

    Streams: everything for the memory passes in the same cycle, so `memory` has the stream rules of what is behind it.
    Latency: `LATENCY` cycles from the request for `started` to its word; a register's write is taken two cycles after its
    acknowledgement. Cost: 60 flip-flops and a multiplexer of G bytes.
    Tested: G = 4 and 13, writes and reads of both kinds in random order, random stalls (tests/test_hw_register_window.py).
    Errors: `TritapeError` for fewer than 4 bytes a word.
    """

    LATENCY = 1

    def __init__(self, groups: int) -> None:
        if groups < 4:
            raise TritapeError(f"groups must be at least 4, not {groups!r}; a tape word has no fewer bytes")
        self.groups = groups
        super().__init__(
            {
                **MemorySignature(groups).members,
                "memory": Out(MemorySignature(groups).flip()),
                "started": In(1),
                "closed": In(1),
                "adr": Out(16),
                "dat_w": Out(32),
                "cyc": Out(1),
                "stb": Out(1),
                "we": Out(1),
                "ack": In(1),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        memory, write, requests, words = self.memory, self.write, self.requests, self.words
        bit = WINDOW.bit_length() - 1
        ours, asked = write.payload.address[bit], requests.payload.address[bit]
        done, answering = Signal(), Signal()  # a register was written; a word of ours waits
        refused = Signal()  # a request came too early
        m.d.sync += refused.eq(requests.valid & ~asked & self.closed)
        m.d.comb += [
            memory.write.payload.eq(write.payload),
            memory.write.valid.eq(write.valid & ~ours & ~self.closed),
            write.ready.eq(Mux(ours, done, memory.write.ready | self.closed)),
            self.write_failed.eq(~ours & (memory.write_failed | self.closed)),
            memory.requests.payload.eq(requests.payload),
            memory.requests.valid.eq(requests.valid & ~asked & ~self.closed),
            requests.ready.eq(Mux(asked, ~answering, memory.requests.ready | self.closed)),
            self.read_failed.eq(memory.read_failed | refused),
            words.payload.eq(Mux(answering, self.started, memory.words.payload)),
            words.valid.eq(answering | memory.words.valid),
            memory.words.ready.eq(words.ready & ~answering),
            self.stb.eq(self.cyc),
            self.we.eq(self.cyc),
        ]
        with m.If(answering):
            check(m, platform, ~memory.words.valid, "it must wait until the words of earlier requests are taken")
        m.d.sync += done.eq(0)
        with m.If(self.cyc), m.If(self.ack):
            m.d.sync += [self.cyc.eq(0), done.eq(1)]
        with m.Elif(write.valid & ours & ~done):
            m.d.sync += [self.adr.eq(write.payload.address), self.dat_w.eq(write.payload.word), self.cyc.eq(1)]
        with m.If(requests.valid & asked & ~answering):
            m.d.sync += answering.eq(1)
        with m.If(answering & words.ready):
            m.d.sync += answering.eq(0)
        return m
