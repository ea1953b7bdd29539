"""The section under way in the sequencer: its header, how much of it is left, the word that is there."""

from __future__ import annotations

from amaranth.hdl import Cat, Const, Module, Signal, Value
from amaranth.lib import data, stream

from tritape.hw.tape.header import CHECK, HEADER_BYTES, HEADER_PAYLOAD_BYTES, Opcode, SectionHeader, TapeHeader, words

CHECKED = 2
"""Bytes of the check that are looked at, its halves one on the other: they find what a whole one finds but for two flips that lie
16 bits apart, and take half the logic."""


class SectionRegisters:
    """Registers that the states of the sequencer share, and the word of the tape that is there.

    Parameters: source: the words; groups: bytes of a word; address_bits: of a count of words.
    """

    def __init__(self, source: stream.Interface, groups: int, address_bits: int) -> None:
        self.word, self.have, self.take = source.payload, source.valid, source.ready
        self.taken = self.have & self.take
        self.header_words, self.tape_words = words(HEADER_BYTES, groups), words(HEADER_PAYLOAD_BYTES, groups)
        self.header, self.tape = Signal(SectionHeader, name="header"), Signal(TapeHeader, name="tape")
        self.number = Signal(
            range(max(self.header_words, self.tape_words) + 1), name="number"
        )  # of the word in a header
        self.left = Signal(address_bits, name="left")  # words until the CRC
        self.closing = Signal(name="closing")  # the next word is the CRC
        self.first_parameter, self.wants = Signal(name="first_parameter"), Signal(name="wants")
        self.begin = Signal(init=1, name="begin")  # the next word begins a section
        self.xor = Signal(8 * CHECKED, name="header_xor")  # of the header, in pieces of so many bits
        # The opcode, decoded: Amaranth's enumerations have no types.
        self.opcode = {code: Signal(name=f"is_{code.name.lower()}") for code in Opcode}

    def build(self, m: Module) -> None:
        """Registers that change with every word."""
        size = len(self.word) // 8
        lanes = [Const(0, 8)] * CHECKED
        for index in range(size):
            lanes[index % CHECKED] = lanes[index % CHECKED] ^ self.word[8 * index : 8 * index + 8]
        # Lane k holds bytes k, k + 2, .. of the word that came last; where the next word begins elsewhere, the lanes turn.
        before = [self.xor.word_select((lane + size) % CHECKED, 8) for lane in range(CHECKED)]
        kept = Cat(before) & (~self.begin).replicate(len(self.xor))
        with m.If(self.taken):
            m.d.sync += [self.begin.eq(self.closing), self.xor.eq(Cat(lanes) ^ kept)]

    @property
    def sound(self) -> Value:
        """The check of the header whose last word came in the cycle before is right."""
        start = (self.header_words - 1) * len(self.word) // 8
        wanted = (CHECK & 0xFFFF ^ CHECK >> 16).to_bytes(CHECKED, "little")
        turned = bytes(wanted[(lane + start) % CHECKED] for lane in range(CHECKED))
        return self.xor == int.from_bytes(turned, "little")


def capture(m: Module, target: data.View, word: Value, number: Value, count: int) -> None:
    """Word `number` of `count` words is there: keep its bits of `target`."""
    bits = target.as_value()
    with m.Switch(number):
        for index in range(count):
            part = bits[index * len(word) : (index + 1) * len(word)]
            with m.Case(index):
                m.d.sync += part.eq(word)
