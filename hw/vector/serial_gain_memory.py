"""The serial vector unit's memory of 16-bit parameters: norm gains and the lower bound."""

from __future__ import annotations

from amaranth.hdl import Module, Mux, Signal
from amaranth.lib import wiring
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import In, Out

from tritape.hw import commands
from tritape.hw.config import Config
from tritape.model.tape.layout import Target


class SerialGainMemory(wiring.Component):
    """Keeps two banks of each of the two norm gains and one lower bound for `SerialVector`, an element an address.

    Ports
        vector: In, `Target`; bank: In, u1 (no meaning for the lower bound); index: In: the element to read.
        read: In, u1: read it; value: Out, u16: what was read last, from the next cycle on.
        load: In, u1: store element `place` of `word` (`parameter_word`) behind the element stored before, or as element 0
            where `word.first` and `place` is 0.

    Rate: a read and a store a cycle. Latency: `LATENCY` cycle of a read.
    Cost: block RAM of 4 * max_length + max_hidden words of 16 bits, each vector rounded up to whole tape words.
    Tested: inside `SerialVector` (tests/test_hw_vector.py).
    """

    LATENCY = 1

    def __init__(self, config: Config) -> None:
        per_word = config.groups // 2
        self._bank = -(-config.max_length // per_word) * per_word
        self._bound = -(-config.max_hidden // per_word) * per_word
        super().__init__(
            {
                "vector": In(2),
                "bank": In(1),
                "index": In(range(config.max_length + 3)),
                "read": In(1),
                "value": Out(16),
                "load": In(1),
                "place": In(range(config.groups)),
                "word": In(commands.parameter_word(config.word_bytes)),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        m.submodules.memory = store = Memory(
            shape=16, depth=4 * self._bank + self._bound, init=[], attrs={"no_rw_check": 1}
        )
        read, write = store.read_port(), store.write_port()
        word, following = self.word, Signal.like(write.addr)
        read_start, write_start = Signal.like(read.addr), Signal.like(write.addr)
        self._start(m, self.vector, self.bank, read_start)
        self._start(m, word.target, word.bank, write_start)
        m.d.comb += [
            read.addr.eq(read_start + self.index),
            read.en.eq(self.read),
            self.value.eq(read.data),
            write.addr.eq(following),
            write.data.eq(word.word.word_select(self.place, 16)),
            write.en.eq(self.load),
        ]
        with m.If(word.first & (self.place == 0)):
            m.d.comb += write.addr.eq(write_start)
        with m.If(self.load):
            m.d.sync += following.eq(write.addr + 1)
        return m

    def _start(self, m: Module, vector: Signal, bank: Signal, start: Signal) -> None:
        """Address of element 0 of a vector."""
        with m.Switch(vector):
            with m.Case(Target.GAIN_FIRST):
                m.d.comb += start.eq(Mux(bank, self._bank, 0))
            with m.Case(Target.GAIN_PRODUCT):
                m.d.comb += start.eq(Mux(bank, 3 * self._bank, 2 * self._bank))
            with m.Default():
                m.d.comb += start.eq(4 * self._bank)
