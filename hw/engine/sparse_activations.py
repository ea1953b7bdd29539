"""Two buffers of quantised activations of all lanes, four to a word: one memory that feeds all fillers of `SparseEngine`."""

from __future__ import annotations

from amaranth.hdl import Cat, Module, Mux, Signal, signed, unsigned
from amaranth.lib import stream, wiring
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import In, Out

from tritape.hw.commands import Activation
from tritape.hw.config import Config
from tritape.hw.engine.two_vectors import two_vectors

FOUR = 4
MOST_FILLERS = 8
"""A filler needs the memory twice in 16 cycles."""


class SparseActivations(wiring.Component):
    """Holds two vectors of activations, so that the fillers of `SparseFiller` read one while the next comes.

    Vectors are read in order of arrival, four consecutive elements at a time. What lies past the end of the vector reads as 0:
    the weights there are not 0.

    Ports
        activations: In, E streams of `Activation`, element j in stream j mod E; all are taken in the same cycle. `ready` is low
            while both buffers hold a whole vector that was not released.
        four: In: number of the four that is read. half: In, u1: read it as 2, 3, 0, 1.
        values: Out, 4 times signed 8, 2 cycles after `four`.
        batch: In: number of the batch of F fours that is wanted; available: Out, u1, a register: all of it was written, or
            the vector ended.
        release: In, u1: forget the vector that is read and read the next. A vector must not be released before its `last`
            was taken.

    Rate: E elements a cycle in, four out. Latency: 2 cycles; a batch is available 2 cycles after its last element was taken.
    Cost: one memory of 32 bits by max_length / 2 (rounded up to a power of two), with byte enables, and about 90 LUT4.
    Tested: inside `SparseEngine`.
    """

    def __init__(self, config: Config) -> None:
        self._config = config
        self._number = four_bits(config)
        super().__init__(
            {
                "activations": In(stream.Signature(Activation)).array(config.engines),
                "four": In(unsigned(self._number)),
                "half": In(1),
                "values": Out(signed(8)).array(FOUR),
                "batch": In(unsigned(batch_bits(config))),
                "available": Out(1),
                "release": In(1),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        m.submodules.memory = memory = Memory(
            shape=unsigned(8 * FOUR), depth=2 << address_bits(self._config), init=[], attrs={"no_rw_check": 1}
        )
        accept = Signal()
        m.d.comb += accept.eq(Cat(lane.valid for lane in self.activations).all() & self.activations[0].ready)
        ended = accept & self.activations[0].payload.last
        some, full, write_buffer, read_buffer = two_vectors(m, platform, ended, self.release)
        for index, lane in enumerate(self.activations):
            others = [other.valid for place, other in enumerate(self.activations) if place != index]
            m.d.comb += lane.ready.eq(~full & Cat(others).all() if others else ~full)
        four, last_four = self._write(m, memory, accept, ended, write_buffer)

        filler_bits = (fillers(self._config) - 1).bit_length()
        m.d.sync += self.available.eq(some | (four[filler_bits:] > self.batch))
        read = memory.read_port()
        # A block RAM is slow, so nothing but a register is behind it; age 2 is when the values are there.
        past, half, raw = Signal(), Signal(), Signal(8 * FOUR)
        past_2, half_2, end = Signal(), Signal(), Signal.like(four)
        m.d.comb += [
            read.addr.eq(Cat(self.four[: address_bits(self._config)], read_buffer)),
            end.eq(Mux(read_buffer, last_four[1], last_four[0])),
        ]
        m.d.sync += [past.eq(some & (self.four > end)), half.eq(self.half)]
        m.d.sync += [past_2.eq(past), half_2.eq(half), raw.eq(read.data)]
        for index, value in enumerate(self.values):
            here, there = (raw.word_select(place, 8) for place in (index, index ^ 2))
            m.d.comb += value.eq(Mux(half_2, there, here) & ~past_2.replicate(8))
        return m

    def _write(
        self, m: Module, memory: Memory, accept: Signal, ended: Signal, write_buffer: Signal
    ) -> tuple[Signal, list[Signal]]:
        """The first elements of a four clear the others. Returns: fours that are whole; the last one of each buffer."""
        engines, address = self._config.engines, address_bits(self._config)
        turns = FOUR // engines
        four, turn = Signal(self._number), Signal(range(turns) if turns > 1 else 1)
        last_four = [Signal(self._number, name=f"last_four_{buffer}") for buffer in range(2)]
        with m.If(accept):
            m.d.sync += turn.eq(turn + 1 if turns > 1 else 0)
            with m.If(turn == turns - 1):
                m.d.sync += four.eq(four + 1)
        with m.If(ended):
            m.d.sync += [four.eq(0), turn.eq(0)]
            for buffer, last in enumerate(last_four):
                with m.If(write_buffer == buffer):
                    m.d.sync += last.eq(four)
        write = memory.write_port(granularity=8)
        begins = turn == 0
        m.d.sync += [
            write.addr.eq(Cat(four[:address], write_buffer)),
            *(write.en[index].eq(accept & (begins | (turn == index // engines))) for index in range(FOUR)),
        ]
        for index in range(FOUR):
            place = write.data.word_select(index, 8)
            m.d.sync += place.eq(self.activations[index % engines].payload.value)
            if index >= engines:
                with m.If(begins):
                    m.d.sync += place.eq(0)
        return four, last_four


def fillers(config: Config) -> int:
    """Fillers of a sparse engine, a power of two: so many that none serves fewer than `tables_per_filler` tables, at most
    `MOST_FILLERS`."""
    most = min(MOST_FILLERS, config.tables // config.tables_per_filler)
    return 1 << (max(1, most).bit_length() - 1)


def batches(config: Config) -> int:
    """Tables that each filler serves in turn."""
    return config.tables // fillers(config)


def address_bits(config: Config) -> int:
    """Bits that number the fours of a vector."""
    return max(1, (-(-config.max_length // FOUR) - 1).bit_length())


def four_bits(config: Config) -> int:
    """Bits that number the fours of all tiles, and those past the vector that a tile has."""
    return (config.max_tiles * config.tables).bit_length()


def batch_bits(config: Config) -> int:
    """Bits that number their batches."""
    return four_bits(config) - (fillers(config) - 1).bit_length()
