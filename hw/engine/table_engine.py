"""The ternary-accumulate core: a weight byte is the address of a sum of five activations."""

from __future__ import annotations

from amaranth.hdl import Cat, Module, Signal, signed, unsigned
from amaranth.lib import data, stream, wiring
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import In, Out

from tritape.hw.commands import Activation
from tritape.hw.config import Config
from tritape.hw.engine.activation_memory import ActivationMemory, fillers
from tritape.hw.engine.adder_tree import AdderTree
from tritape.hw.engine.row_accumulator import ROW_BITS, RowAccumulator, latency
from tritape.hw.engine.table_filler import ENTRY_BITS, MAGNITUDE_BITS, Command, TableFiller, tile_layout


class TableEngine(wiring.Component):
    """`rows[r] = sat18(sum_k trit[r, k] * q[k])` for one block of rows after another; 5 E G multiply-accumulates a cycle.

    A weight byte is the sign and magnitude of a balanced ternary number of five digits. Its magnitude is looked up in a
    table that holds the sum of the five activations with those digits; its sign turns an addition of the tree into a
    subtraction. All rows of a tile (5 G activations) stream while the tables of the next tile are filled in their other
    bank; partial sums wait in the row accumulator.

    E engines take a slice of E rows at a time: each has its own tables (all with the same entries, so fillers are shared),
    adder tree and accumulator. Vectors come and rows leave in E lanes: element or row j in lane j mod E. The activations of
    lane e are in tables e G / E and following. All lanes move in step.

    Ports
        activations: E streams of value s8 and last: vectors, element by element; two fit. `last` ends one.
        commands: stream of tiles u16, rows u16, release u1: one matrix block, `tiles` 1..max_tiles by `rows` slices
            1..max_rows / E, times the oldest vector held; `release` forgets that vector after this block. Other
            numbers, or fewer elements in the vector than the last tile needs, give wrong rows without notice.
        weights: stream of E G bytes, for tile, for slice: byte e G + g (bits 8 (e G + g)) is of row e of the slice; bytes of
            docs/contract.md.
        rows: stream of E times signed 18, a slice, in order, during the last tile of each block.
        streaming, wait_output, wait_weights, wait_tables, wait_activations: 1 bit each, exactly one is high in every
            cycle: a word is taken; the rows are not; there is no word; tables are still filling; there is no command or
            not its activations, and nothing to stream.
        saturated: how many rows saturated in this cycle, 0..E.

    Rate: one word a cycle, across tiles and blocks, while the slices of a tile are at least `fill_cycles(config)`; else
    one tile in `fill_cycles(config)` cycles (and a few more for blocks of 1 to 3 slices).
    Latency: `pipeline_cycles` cycles from a word of the last tile to its slice's `valid`.
    Cost at G = 16 and 1 table a filler, ECP5 speed grade 6 (`tritape area engine --route`): 719 LUT4 (9.0 for each of
    the 80 multiply-accumulates), 1,466 registers with the harness, 35 block RAMs, no DSP, 129 MHz (120 to 129 over
    three seeds of placement). With 2 tables a filler: 590 LUT4, 27 block RAMs.
    Tested: G = 4, 5, 13, 16, 26 and E = 1 to 5 on Verilator and Icarus, blocks of 1 to 257 rows.
    """

    def __init__(self, config: Config) -> None:
        self.config = config
        self.pipeline_cycles = pipeline_cycles(config)
        super().__init__(
            {
                "activations": In(stream.Signature(Activation)).array(config.engines),
                "commands": In(stream.Signature(Command)),
                "weights": In(stream.Signature(unsigned(8 * config.word_bytes))),
                "rows": Out(stream.Signature(data.ArrayLayout(signed(ROW_BITS), config.engines))),
                "streaming": Out(1),
                "wait_output": Out(1),
                "wait_weights": Out(1),
                "wait_tables": Out(1),
                "wait_activations": Out(1),
                "saturated": Out(range(config.engines + 1)),
            }
        )

    def elaborate(self, platform: object) -> Module:
        config, m = self.config, Module()
        m.submodules.filler = filler = TableFiller(config)
        trees = [AdderTree(config.groups, ENTRY_BITS) for _ in range(config.engines)]
        accumulators = [RowAccumulator(config, ENTRY_BITS + trees[0].levels) for _ in range(config.engines)]
        for index, (tree, accumulator) in enumerate(zip(trees, accumulators)):
            m.submodules[f"tree_{index}"], m.submodules[f"accumulator_{index}"] = tree, accumulator
            m.d.comb += [
                self.rows.payload[index].eq(accumulator.rows.payload),
                accumulator.rows.ready.eq(self.rows.ready),
            ]
        wiring.connect(m, wiring.flipped(self.commands), filler.commands)
        per_lane = fillers(config)
        for index in range(config.engines):
            m.submodules[f"activation_memory_{index}"] = memory = ActivationMemory(config)
            wiring.connect(m, wiring.flipped(self.activations[index]), memory.activations)
            m.d.comb += [
                memory.tile.eq(filler.tile),
                memory.table.eq(filler.table),
                memory.digit.eq(filler.digit),
                memory.release.eq(filler.release),
                *(filler.values[index * per_lane + place].eq(value) for place, value in enumerate(memory.values)),
            ]
            if index == 0:
                m.d.comb += filler.available.eq(memory.available)
        # Engines and lanes move in step: the first speaks for all.
        advance = accumulators[0].advance
        m.d.comb += self.rows.valid.eq(accumulators[0].rows.valid)

        # The tile that streams. `row` counts from 1, modulo its width.
        active, row = Signal(), Signal.like(filler.tiles.payload.rows)
        tile = Signal(tile_layout(config))
        take = self.weights.valid & self.weights.ready
        ends = take & (row == tile.rows)
        m.d.comb += self.weights.ready.eq(active & advance)

        # Slice: the word taken, age 1. A short block's next tile must wait until its rows are written.
        word, slice_valid, slice_ends = Signal.like(self.weights.payload), Signal(), Signal()
        slice_first, slice_last, slice_bank = Signal(), Signal(), Signal()
        settling = Signal(RowAccumulator.HAZARD_CYCLES - 2)  # a tile ended 2, 3 cycles ago
        short = Signal()
        with m.If(advance):
            m.d.sync += [
                word.eq(self.weights.payload),
                slice_valid.eq(take),
                slice_first.eq(tile.first),
                slice_last.eq(tile.last),
                slice_bank.eq(~filler.bank),
                slice_ends.eq(ends),
                settling.eq(Cat(slice_ends, settling)),
            ]
        settled = ~(slice_ends | settling.any())
        load = filler.tiles.valid & filler.tiles.ready
        m.d.comb += filler.tiles.ready.eq((~active & (~short | settled)) | (ends & ~short))
        m.d.comb += filler.bank_busy.eq(slice_ends & ~advance)
        with m.If(take):
            m.d.sync += row.eq(row + 1)
        with m.If(ends):
            m.d.sync += active.eq(0)
        with m.If(load):
            m.d.sync += [active.eq(1), row.eq(1), tile.eq(filler.tiles.payload)]
            rows = filler.tiles.payload.rows
            m.d.sync += short.eq(~rows[2:].any() & rows[:2].any())

        # Tables: read at age 1, their output register at age 3.
        for index in range(config.word_bytes):
            engine, group = divmod(index, config.groups)
            lane, place = divmod(group, config.lane_groups)
            source = lane * per_lane + place // config.tables_per_filler
            table = Memory(shape=signed(ENTRY_BITS), depth=2 << MAGNITUDE_BITS, init=[], attrs={"no_rw_check": 1})
            m.submodules[f"table_{index}"] = table
            read, write = table.read_port(), table.write_port()
            byte = word.word_select(index, 8)
            m.d.comb += [
                read.addr.eq(Cat(byte[:MAGNITUDE_BITS], slice_bank)),
                read.en.eq(advance),
                write.addr.eq(filler.write_address),
                write.data.eq(filler.entries[source]),
                write.en.eq(filler.write_enable[place % config.tables_per_filler]),
            ]
            with m.If(advance):
                m.d.sync += trees[engine].values[group].eq(read.data)
        negate = Signal(config.word_bytes)
        with m.If(advance):
            m.d.sync += negate.eq(Cat(word.word_select(index, 8)[-1] for index in range(config.word_bytes)))
        for index, tree in enumerate(trees):
            m.d.comb += [tree.enable.eq(advance), tree.negate.eq(negate.word_select(index, config.groups))]

        # What belongs to a slice reaches the accumulator SUM_DELAY before its sum, which is ready at age 3 + levels.
        here = Cat(slice_valid, slice_first, slice_last)
        where = Signal.like(row)
        with m.If(advance):
            m.d.sync += where.eq(row)
        for age in range(2, 2 + trees[0].levels):
            here_next, where_next = Signal.like(here, name=f"slice_{age}"), Signal.like(row, name=f"row_{age}")
            with m.If(advance):
                m.d.sync += [here_next.eq(here), where_next.eq(where)]
            here, where = here_next, where_next
        for tree, accumulator in zip(trees, accumulators):
            m.d.comb += [
                Cat(accumulator.valid, accumulator.first, accumulator.last).eq(here),
                accumulator.row.eq(where),
                accumulator.total.eq(tree.total),
                accumulator.negated.eq(tree.negated),
            ]
        m.d.comb += self.saturated.eq(sum(accumulator.saturated for accumulator in accumulators))

        m.d.comb += [
            self.streaming.eq(take),
            self.wait_output.eq(~advance),
            self.wait_weights.eq(active & advance & ~self.weights.valid),
            self.wait_tables.eq(~active & advance & ~filler.waiting),
            self.wait_activations.eq(~active & advance & filler.waiting),
        ]
        return m


def pipeline_cycles(config: Config) -> int:
    """Cycles from a weight word of the last tile to its row's `valid`: 8 (6 where serial) and one for each level of the tree."""
    return latency(config) + 1 + (config.groups - 1).bit_length()
