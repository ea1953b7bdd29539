"""Runs the token loop by itself: prompt tokens first, then each token that the head chose."""

from __future__ import annotations

from amaranth.hdl import Module, Signal
from amaranth.lib import enum, stream, wiring
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import In, Out

from tritape.hw.assertion import check
from tritape.hw.tape.reader import TokenRequest

RING = 256
"""Tokens kept: positions of the sequence count modulo this."""
WINDOW = 120
"""A host must not set `limit` further than this beyond the last token that it has read, or tokens are overwritten."""


class Stop(enum.Enum, shape=2):  # type: ignore[call-arg]
    """Why the runner refused to go on; the numbers are those of `ErrorCode` in `tritape.hw.link.commands`."""

    NONE = 0
    NOT_BOOTED = 2
    FAULT = 3


class TokenRunner(wiring.Component):
    """A ring of tokens in block RAM and the loop that feeds them.

    Position p of the ring holds the p-th token of the sequence: given by the host, or chosen by the head after the one at
    p - 1. After `begin` at a position and any number of `load`, `go` runs the loaded tokens, then every token chosen, until
    all positions below `limit` hold one. Another `go` with a later limit moves the limit, or goes on after the end.

    Ports
        begin: In, u1, a pulse, only while not `running`: the next token loaded stands at `place`: In, u8; `fresh`: In, u1,
            sampled with it: that token starts a sequence
        load: In, stream of u16, only while not `running`
        go: In, u1, a pulse; with it `limit`: In, u8, a position at or behind the last token known, and `place`, the position
            to read from
        stop: In, u1, a pulse: no token is fed after the one under way, until the next `go`
        available: Out, u1, chosen: Out, u16, take: In, u1: tokens from there on, as far as they are known. Not a
            stream: `available` falls for two cycles a token, when the loop reads or writes the ring
        running: Out, u1: the limit is not reached; busy: Out, u1: a token is in the token loop
        stopped: Out, `Stop`: why it stopped before the limit
        tokens: Out, stream of `TokenRequest`; answers: In, stream of u16: of the token loop
        configured, fault, passing: In, u1, of the token loop. No token is available whose pass is not over, so that
            what is wrong with the pass is known before the token is

    Cost: one block RAM of 256 x 16 bits, 134 iCE40 LUT4. Tested inside `HostLink`: prompts, limits that move, stops,
    errors (tests/test_hw_host_link.py), and long sequences on the simulated device (tests/test_host_device.py).
    """

    def __init__(self) -> None:
        super().__init__(
            {
                "begin": In(1),
                "place": In(8),
                "fresh": In(1),
                "load": In(stream.Signature(16)),
                "go": In(1),
                "limit": In(8),
                "stop": In(1),
                "available": Out(1),
                "chosen": Out(16),
                "take": In(1),
                "running": Out(1),
                "busy": Out(1),
                "stopped": Out(Stop),
                "tokens": Out(stream.Signature(TokenRequest)),
                "answers": In(stream.Signature(16)),
                "configured": In(1),
                "fault": In(1),
                "passing": In(1),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        memory = Memory(shape=16, depth=RING, init=[], attrs={"no_rw_check": 1})
        m.submodules.memory = memory
        write, read = memory.write_port(), memory.read_port()
        position = Signal(8)  # of the next token to feed
        known = Signal(8)  # behind the last token that is given or chosen
        limit, reader = Signal(8), Signal(8)
        fresh, halt = Signal(), Signal()
        fetch = Signal()  # the ring is read for the loop, not for `chosen`
        fetched = Signal()  # it puts out the token at `reader`
        answering = Signal()  # the answer of the token under way is not there yet

        m.d.comb += [
            read.en.eq(1),
            read.addr.eq(reader),
            write.addr.eq(known),
            write.data.eq(self.load.payload),
            self.load.ready.eq(~self.running),
            self.chosen.eq(read.data),
            self.available.eq(fetched & self.configured & (reader != known) & (answering | ~self.passing)),
            self.tokens.payload.token.eq(read.data),
            self.tokens.payload.fresh.eq(fresh),
        ]
        m.d.sync += fetched.eq(~(fetch | write.en))  # a cycle later, like the read data
        with m.If(self.available & self.take):
            m.d.sync += [reader.eq(reader + 1), fetched.eq(0)]
        with m.If(write.en):
            m.d.sync += known.eq(known + 1)
        with m.If(self.stop):
            m.d.sync += halt.eq(self.running)

        with m.FSM():
            with m.State("CHECK"):
                m.d.comb += read.addr.eq(reader)
                m.d.comb += write.en.eq(self.load.valid & ~self.running)
                with m.If(self.running):
                    with m.If(self.fault | ~self.configured):
                        m.d.sync += [self.running.eq(0), halt.eq(0), self.stopped.eq(Stop.NOT_BOOTED)]
                        with m.If(self.fault):
                            m.d.sync += self.stopped.eq(Stop.FAULT)
                    with m.Elif((halt | (known == limit)) & self.passing):
                        m.d.comb += self.busy.eq(1)
                    with m.Elif(halt | (known == limit)):
                        m.d.sync += [self.running.eq(0), halt.eq(0)]
                    with m.Else():
                        m.d.comb += [fetch.eq(1), read.addr.eq(position)]
                        m.next = "FEED"
            with m.State("FEED"):
                m.d.comb += [fetch.eq(1), read.addr.eq(position), self.tokens.valid.eq(1), self.busy.eq(1)]
                with m.If(self.fault | ~self.configured):
                    m.next = "CHECK"
                with m.Elif(self.tokens.ready):
                    m.d.sync += [fresh.eq(0), position.eq(position + 1)]
                    m.next = "WAIT"
            with m.State("WAIT"):
                m.d.comb += [self.answers.ready.eq(1), write.data.eq(self.answers.payload), self.busy.eq(1)]
                m.d.comb += answering.eq(1)
                with m.If(self.fault | ~self.configured):
                    m.next = "CHECK"
                with m.Elif(self.answers.valid):
                    m.d.comb += write.en.eq(known == position)  # else the next token is given
                    m.next = "CHECK"
        with m.If(self.begin):
            check(m, platform, ~self.running, "begin must come only while not running")
            m.d.sync += [position.eq(self.place), known.eq(self.place), fresh.eq(self.fresh)]
        with m.If(self.go):
            m.d.sync += [reader.eq(self.place), limit.eq(self.limit), fetched.eq(0)]
            m.d.sync += [self.running.eq(1), self.stopped.eq(Stop.NONE)]
        return m
