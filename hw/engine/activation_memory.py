"""Two buffers of quantised activations of one lane, one small memory for each of its fillers."""

from __future__ import annotations

from amaranth.hdl import Cat, Module, Mux, Signal, Value, signed, unsigned
from amaranth.lib import stream, wiring
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import In, Out

from tritape.hw.commands import Activation
from tritape.hw.config import Config
from tritape.hw.engine.two_vectors import two_vectors
from tritape.model.codes.ternary5 import TRITS

DIGIT_BITS = 3


class ActivationMemory(wiring.Component):
    """Holds two vectors of activations of a lane, so that the table fillers of `TableEngine` read one while the next comes.

    Vectors are read in order of arrival; filler f reads element `5 (G / E) t + 5 (f * tables_per_filler + j) + k` at
    (t, j, k). With several engines each lane has one of these, for its elements and its G / E tables.

    Ports
        activations: In stream of `Activation`. `ready` is low while both buffers hold a whole vector that was not released.
        tile, table, digit: In: what all fillers read now; `tile` counts from 1 (modulo its width).
        values: Out, array of signed 8, one a filler: the elements read, 2 cycles after their address. What lies past the
            end of the vector is old data.
        available: Out, u1: all elements of `tile` are there, in the buffer that is read: they were written, or the vector
            ended.
        release: In, u1: forget the vector that is read and read the next. A vector must not be released before its `last`
            was taken.

    Rate: an element a cycle in, one a filler and cycle out. Latency: 2 cycles. An element that is taken makes its tile
    available in the next cycle.
    Cost: one memory a filler, of 2 * max_tiles * tables_per_filler * 8 bytes (each factor rounded up to a power
    of two; block RAM, or LUT RAM where small), and about 30 LUT4. Tested: groups 4..26, 1..4 tables a filler.
    """

    def __init__(self, config: Config) -> None:
        self._config = config
        self.fillers = fillers(config)
        super().__init__(
            {
                "activations": In(stream.Signature(Activation)),
                "tile": In(unsigned(tile_bits(config))),
                "table": In(unsigned(table_bits(config))),
                "digit": In(unsigned(DIGIT_BITS)),
                "values": Out(signed(8)).array(self.fillers),
                "available": Out(1),
                "release": In(1),
            }
        )

    def elaborate(self, platform: object) -> Module:
        config, m = self._config, Module()
        accept = self.activations.valid & self.activations.ready
        ended = accept & self.activations.payload.last

        some, full, write_buffer, read_buffer = two_vectors(m, platform, ended, self.release)
        m.d.comb += self.activations.ready.eq(~full)

        # Where the next element goes.
        tile = Signal(tile_bits(config), init=1)
        table = Signal(table_bits(config))
        digit = Signal(DIGIT_BITS)
        turn = Signal(self.fillers, init=1)  # one bit: the filler
        last_digit = digit == TRITS - 1
        last_table = table == config.tables_per_filler - 1
        tile_ends = last_digit & turn[-1] & (table == (config.lane_groups - 1) % config.tables_per_filler)
        with m.If(accept):
            m.d.sync += digit.eq(digit + 1)
            with m.If(last_digit):
                m.d.sync += [digit.eq(0), table.eq(table + 1)]
                with m.If(last_table):
                    m.d.sync += [table.eq(0), turn.eq(turn.rotate_left(1))]
            with m.If(tile_ends):
                m.d.sync += tile.eq(tile + 1)
        with m.If(accept & tile_ends):
            m.d.sync += [table.eq(0), turn.eq(1)]
        with m.If(ended):
            m.d.sync += [tile.eq(1), table.eq(0), turn.eq(1), digit.eq(0)]
        m.d.comb += self.available.eq(some | (tile != self.tile))

        def place(digit: Value, table: Value, tile: Value, buffer: Value) -> Value:
            return Cat(digit, table, tile, buffer) if config.tables_per_filler > 1 else Cat(digit, tile, buffer)

        write_address = Signal.like(place(digit, table, tile, write_buffer))
        write_value, write_turn = Signal(signed(8)), Signal(self.fillers)
        m.d.sync += [
            write_address.eq(place(digit, table, tile, write_buffer)),
            write_value.eq(self.activations.payload.value),
            write_turn.eq(Mux(accept, turn, 0)),
        ]
        for index in range(self.fillers):
            memory = Memory(shape=signed(8), depth=1 << len(write_address), init=[], attrs={"no_rw_check": 1})
            m.submodules[f"memory_{index}"] = memory
            read, write = memory.read_port(), memory.write_port()
            m.d.comb += [
                read.addr.eq(place(self.digit, self.table, self.tile, read_buffer)),
                write.addr.eq(write_address),
                write.data.eq(write_value),
                write.en.eq(write_turn[index]),
            ]
            m.d.sync += self.values[index].eq(read.data)
        return m


def fillers(config: Config) -> int:
    """Fillers that the tables of one lane need."""
    return -(-config.lane_groups // config.tables_per_filler)


def tile_bits(config: Config) -> int:
    """Bits of a tile's number (counted from 1, modulo 2^bits)."""
    return max(1, (config.max_tiles - 1).bit_length())


def table_bits(config: Config) -> int:
    """Bits that number the tables of one filler."""
    return max(1, (config.tables_per_filler - 1).bit_length())
