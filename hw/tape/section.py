"""The section under way in the sequencer: its header, how much of it is left, the word that is there."""

from __future__ import annotations

from amaranth.hdl import Module, Signal, Value
from amaranth.lib import data, stream

from tritape.hw.tape.header import HEADER_BYTES, HEADER_PAYLOAD_BYTES, Opcode, SectionHeader, TapeHeader, words


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
        # The opcode, decoded: Amaranth's enumerations have no types.
        self.opcode = {code: Signal(name=f"is_{code.name.lower()}") for code in Opcode}


def capture(m: Module, target: data.View, word: Value, number: Value, count: int) -> None:
    """Word `number` of `count` words is there: keep its bits of `target`."""
    bits = target.as_value()
    with m.Switch(number):
        for index in range(count):
            part = bits[index * len(word) : (index + 1) * len(word)]
            with m.Case(index):
                m.d.sync += part.eq(word)
