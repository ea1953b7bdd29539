"""An embedding row from memory words to the residual."""

from __future__ import annotations

from amaranth import Cat, Module, Mux, Signal, signed, unsigned
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out

from tritape.base.errors import TritapeError
from tritape.hw.commands import EmbeddingCommand as Command


class Embedding(wiring.Component):
    """Elements of an embedding row: `x[j] = round_shift(e[j] * multiplier, 8)`.

    Parameters
        groups: G, bytes of a word, at least 4

    Ports
        commands: In, {length u15: elements, multiplier u16}; length 0 does nothing
        words: In, 8 G bits: G int8, low byte first. A command takes ceil(length / G) words; the bytes of the last one
            past the length are ignored
        elements: Out, s18

    One element a cycle, also from one word to the next if the next is there. The first element is valid `LATENCY`
    cycles after the transfer of its word when nothing stalls; all stages stop together while `elements` is valid and
    not ready. The next command is taken when the last byte of the one before has left its word.

    Cost: one 9 x 17 multiplier, 8 G + about 120 flip-flops. Tested for G = 4 and 26, lengths 1 to 97, extremes.
    Raises `TritapeError` for groups below 4. Source: docs/contract.md, "Embedding".
    """

    LATENCY = 4

    def __init__(self, groups: int) -> None:
        if groups < 4:
            raise TritapeError(f"groups must be at least 4, not {groups!r}")
        self.groups = groups
        super().__init__(
            {
                "commands": In(stream.Signature(Command)),
                "words": In(stream.Signature(unsigned(8 * groups))),
                "elements": Out(stream.Signature(signed(18))),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        advance = Signal()
        to_load = Signal(15)  # elements whose word has not come yet
        loading = Signal()  # to_load is not 0: a register, because the tape waits for it
        word = Signal(8 * self.groups, reset_less=True)
        left = Signal(range(self.groups + 1))  # elements left in the word
        multiplier = Signal(16)

        valid = Signal(self.LATENCY - 1)
        code, factor = Signal(signed(8)), Signal(16)  # with its own factor: a new command may come meanwhile
        product = Signal(signed(25))
        element = Signal(signed(18))

        m.d.comb += [
            advance.eq(~valid[-1] | self.elements.ready),
            self.words.ready.eq(loading & ((left == 0) | ((left == 1) & advance))),
            self.commands.ready.eq(~loading & (left == 0)),
            self.elements.valid.eq(valid[-1]),
            self.elements.payload.eq(element),
        ]
        with m.If(advance):
            m.d.sync += [
                valid.eq(Cat(left.any(), valid[:-1])),
                code.eq(word[:8]),
                factor.eq(multiplier),
                product.eq(code * factor),
                element.eq(((product >> 7) + 1) >> 1),
            ]
            with m.If(left.any()):
                m.d.sync += left.eq(left - 1)
        load = self.words.valid & self.words.ready
        with m.If(load | advance):  # a shift past the last byte does no harm
            m.d.sync += word.eq(Mux(load, self.words.payload, word >> 8))
        with m.If(load):
            whole = to_load > self.groups
            m.d.sync += [
                left.eq(Mux(whole, self.groups, to_load)),
                to_load.eq(Mux(whole, to_load - self.groups, 0)),
                loading.eq(whole),
            ]
        with m.If(self.commands.valid & self.commands.ready):
            length = self.commands.payload.length
            m.d.sync += [to_load.eq(length), loading.eq(length.any())]
            m.d.sync += multiplier.eq(self.commands.payload.multiplier)
        return m
