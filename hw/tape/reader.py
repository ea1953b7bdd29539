"""Asks the memory for the tape: header, then prologue, embedding row and body of every token."""

from __future__ import annotations

from amaranth.hdl import Module, Mux, Signal
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from tritape.base.errors import TritapeError
from tritape.hw.assertion import check
from tritape.hw.memory.signature import Request
from tritape.hw.tape.header import HEADER_BYTES, HEADER_PAYLOAD_BYTES, words

TokenRequest = data.StructLayout({"token": 16, "fresh": 1})
"""A token to run; `fresh` marks the first one of a text (the state starts at zero)."""

SlotRequest = data.StructLayout({"token": 16, "fresh": 1, "chain": 1, "active": 1})
"""A slot's share of a step. `chain`: the state starts from what the slot before it makes of its token in the same step;
`active`: the token counts, else it changes nothing."""


NUMBERS = ("prologue_address", "prologue_words", "body_address", "body_words", "embedding_address", "row_words")
"""Registers of the sequencer that the reader goes by."""


class TapeReader(wiring.Component):
    """Turns tokens into read requests, always one prologue ahead.

        boot: [0, header];  configured: prologue;  each token: [embedding + token * row, row words], body, prologue

    Ports
        boot: In stream, 1 bit (ignored): read the HEADER section at address 0; taken once, after reset.
        configured: In 1, and prologue_address, prologue_words, body_address, body_words, embedding_address, row_words,
        In u32 (row_words below 65536): the sequencer's registers, constant once `configured` is high.
        tokens: In stream, {token u16, fresh u1}. A token is taken when the one before is finished, so that `fresh` holds
        for the whole token.
        finished: In 1, the sequencer's pulse at the END section of a token.
        requests: Out stream, {address u32, length u32} in words.
        token: Out u16, fresh: Out u1: the token under way.
    With several slots a step of T tokens is what one token is above, and the reader asks for their rows in order of slots:
        tokens: In stream of T `SlotRequest`. step: Out, T `SlotRequest`, of the step under way, instead of token and fresh.

    Streams: `requests` is a register; the ready signals are functions of registers only.
    Latency: `LATENCY` = 3 cycles from a token's transfer to the request of its row.
    Cost: a 16 x 16 multiplier (unsigned), about 180 flip-flops and 19 for each of several slots. Tested: G = 4, 13, 16,
    T = 1, 3, random addresses and tokens.
    `address_bits`: of the memory's addresses in words; what is above is taken for 0.
    Errors: `TritapeError` for groups below 4.
    """

    LATENCY = 3

    def __init__(self, groups: int, *, address_bits: int = 32, batch: int = 1) -> None:
        if groups < 4:
            raise TritapeError(f"groups must be at least 4, not {groups!r}")
        self.groups = groups
        self.batch = batch
        self.address_bits = address_bits
        step = data.ArrayLayout(SlotRequest, batch)
        super().__init__(
            {
                "boot": In(stream.Signature(1)),
                "configured": In(1),
                **{name: In(32) for name in NUMBERS},
                "tokens": In(stream.Signature(TokenRequest if batch == 1 else step)),
                "finished": In(1),
                "requests": Out(stream.Signature(Request)),
                **({"token": Out(16), "fresh": Out(1)} if batch == 1 else {"step": Out(step)}),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        header_words = words(HEADER_BYTES, self.groups) + words(HEADER_PAYLOAD_BYTES, self.groups) + 1
        token = Signal(16) if self.batch > 1 else self.token
        size, offset = Signal(16), Signal(self.address_bits)
        body = Signal()  # the body's request is next, else the prologue's
        busy = Signal()  # a token is under way
        free = Signal()  # the request register can be written
        address, length = Signal(self.address_bits), Signal(self.address_bits)
        m.d.comb += [self.requests.payload.address.eq(address), self.requests.payload.length.eq(length)]

        m.d.comb += free.eq(~self.requests.valid)
        with m.If(self.requests.valid & self.requests.ready):
            m.d.sync += self.requests.valid.eq(0)
        with m.If(self.finished):
            m.d.sync += busy.eq(0)
        m.d.sync += [size.eq(self.row_words), offset.eq(token * size)]
        with m.If(self.tokens.valid & self.tokens.ready):
            check(m, platform, self.configured, "a token must be taken only when configured is high")

        with m.FSM():
            with m.State("BOOT"):
                m.d.comb += self.boot.ready.eq(1)
                m.d.sync += [address.eq(0), length.eq(header_words)]
                with m.If(self.boot.valid):
                    m.d.sync += self.requests.valid.eq(1)
                    m.next = "CONFIGURE"
            with m.State("CONFIGURE"), m.If(self.configured):
                m.next = "REGION"
            with m.State("REGION"), m.If(free):
                m.d.sync += [
                    address.eq(Mux(body, self.body_address, self.prologue_address)),
                    length.eq(Mux(body, self.body_words, self.prologue_words)),
                    self.requests.valid.eq(1),
                    body.eq(0),
                ]
                with m.If(~body):
                    m.next = "TOKEN"
            with m.State("TOKEN"):
                m.d.comb += self.tokens.ready.eq(~busy & free)
                with m.If(self.tokens.valid & self.tokens.ready):
                    if self.batch == 1:
                        m.d.sync += [token.eq(self.tokens.payload.token), self.fresh.eq(self.tokens.payload.fresh)]
                    else:
                        m.d.sync += [token.eq(self.tokens.payload[0].token), self.step.eq(self.tokens.payload)]
                    m.d.sync += [busy.eq(1), body.eq(1)]
                    m.next = "MULTIPLY"
            with m.State("MULTIPLY"):
                m.next = "ROW"
            with m.State("ROW"), m.If(free):
                m.d.sync += [
                    address.eq(self.embedding_address + offset),
                    length.eq(self.row_words),
                    self.requests.valid.eq(1),
                ]
                m.next = "REGION"
                if self.batch > 1:
                    slot = Signal(range(self.batch))  # whose row this is
                    m.d.sync += slot.eq(0)
                    with m.If(slot != self.batch - 1):
                        m.d.sync += [slot.eq(slot + 1), token.eq(self.step[(slot + 1)[: len(slot)]].token)]
                        m.next = "MULTIPLY"
        return m
