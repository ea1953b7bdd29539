"""Vectors of 16-bit parameters: written a word at a time, read an element at a time."""

from __future__ import annotations

from amaranth.hdl import Array, Cat, Module, Signal
from amaranth.lib import data, memory, stream, wiring
from amaranth.lib.wiring import In, Out

from tritape.base.errors import TritapeError
from tritape.hw.assertion import check


class GainMemory(wiring.Component):
    """Holds vectors of parameters that come from the tape in words and are used element by element: the norm gains of
    `RMSNorm` (two banks, one written while the other is read) and the lower bound of `MLGRU`.

    It has `banks` vectors of up to `max_length` elements of 16 bits. A word of `8 * groups` bits has `groups // 2` elements,
    low first (docs/contract.md "Tape words").

    Ports
        `words` (In stream): `word` 8 G bits, `bank`, `first` (1 for the first word of a vector: writing starts over at
        the bank's beginning). Always ready. There must be no more words than a bank holds.
        `reads` (In stream): `bank`; `length`, which must be 1..max_length. Taken one at a time, when the vector before is
        read out.
        `elements` (Out stream): unsigned 16, elements 0..length-1 of the bank.

    A read sees the words that were taken before it.
    Rate: one element a cycle. The next read is taken while the last element leaves.
    Latency: `LATENCY` cycles from `reads` to the first element.
    Cost: block RAM (`banks * ceil(max_length / (groups // 2))` words) and one register of a word with its multiplexer.
    Tested: groups 4..17, one and two banks. Raises `TritapeError` for sizes that cannot be.
    """

    LATENCY = 4

    def __init__(self, groups: int, max_length: int, banks: int) -> None:
        if groups < 4:
            raise TritapeError(f"groups must be at least 4, not {groups!r}")
        if not 1 <= max_length <= 16384:
            raise TritapeError(f"max_length must be 1..16384, not {max_length!r}")
        if not 1 <= banks <= 2:
            raise TritapeError(f"banks must be 1 or 2, not {banks!r}")
        self._per_word = groups // 2
        self._banks = banks
        self._max_length = max_length
        self._bank_words = -(-max_length // self._per_word)
        words = data.StructLayout({"word": 8 * groups, "bank": 1, "first": 1})
        reads = data.StructLayout({"bank": 1, "length": 15})
        super().__init__(
            {
                "words": In(stream.Signature(words)),
                "reads": In(stream.Signature(reads)),
                "elements": Out(stream.Signature(16)),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        per_word = self._per_word
        m.submodules.memory = store = memory.Memory(
            shape=16 * per_word,
            depth=self._banks * self._bank_words,
            init=[],
            attrs={"no_rw_check": 1},  # a word is never read while it is written, so Yosys need not build the bypass
        )
        write, read = store.write_port(), store.read_port()
        bases = Array([0, self._bank_words if self._banks == 2 else 0])

        next_write = Signal.like(write.addr)
        m.d.comb += [
            self.words.ready.eq(1),
            write.addr.eq(next_write),
            write.data.eq(self.words.payload.word[: 16 * per_word]),
            write.en.eq(self.words.valid),
        ]
        with m.If(self.words.payload.first):
            m.d.comb += write.addr.eq(bases[self.words.payload.bank])
        with m.If(self.words.valid):
            m.d.sync += next_write.eq(write.addr + 1)
            # Without `first` no word may stand where a bank begins.
            ends = [next_write == bank * self._bank_words for bank in range(self._banks + 1)]
            with m.If(~self.words.payload.first):
                check(m, platform, ~Cat(ends).any(), "there must be no more words than a bank holds")

        with m.If(self.reads.valid):
            length = self.reads.payload.length
            check(m, platform, (length >= 1) & (length <= self._max_length), "`length` must be 1..max_length")

        busy = Signal()
        left = Signal(15)  # elements after the current one
        fetched = Signal()  # the read port holds the next word
        word = Signal(16 * per_word)
        word_valid = Signal()
        index = Signal(range(per_word))
        take = Signal()
        load = Signal()
        word_end = Signal()
        vector_end = Signal()
        m.d.comb += [
            self.reads.ready.eq(~busy),
            take.eq(word_valid & (~self.elements.valid | self.elements.ready)),
            word_end.eq(index == per_word - 1),
            vector_end.eq(left == 0),
            load.eq(fetched & (~word_valid | (take & word_end))),
            read.en.eq(busy & ~fetched),  # two cycles a word are enough: it has two elements or more
        ]
        with m.If(read.en):
            m.d.sync += [fetched.eq(1), read.addr.eq(read.addr + 1)]
        with m.If(take):
            m.d.sync += [index.eq(index + 1), left.eq(left - 1)]
            with m.If(word_end):
                m.d.sync += word_valid.eq(0)
        with m.If(load):
            m.d.sync += [word.eq(read.data), word_valid.eq(1), index.eq(0), fetched.eq(0)]
        with m.If(take & vector_end):  # what was fetched too much is dropped
            m.d.sync += [busy.eq(0), fetched.eq(0), word_valid.eq(0)]
        with m.If(~busy & self.reads.valid):
            m.d.sync += [
                busy.eq(1),
                left.eq(self.reads.payload.length - 1),
                read.addr.eq(bases[self.reads.payload.bank]),
            ]

        with m.If(take):
            m.d.sync += self.elements.payload.eq(word.word_select(index, 16))
        with m.If(~self.elements.valid | self.elements.ready):
            m.d.sync += self.elements.valid.eq(take)
        return m
