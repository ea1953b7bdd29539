"""What the engines of all weight codes have in common: tiles stream past tables, trees add, rows come out."""

from __future__ import annotations

from abc import abstractmethod
from typing import TypeAlias

from amaranth.hdl import Cat, Module, Signal, signed, unsigned
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from tritape.hw.commands import Activation, EngineCommand
from tritape.hw.config import Config
from tritape.hw.engine.adder_tree import AdderTree
from tritape.hw.engine.row_accumulator import ROW_BITS, RowAccumulator, latency, row_bits
from tritape.hw.engine.sparse_filler import SparseFiller
from tritape.hw.engine.table_filler import TableFiller, tile_layout
from tritape.model.codes import TERNARY5

Filler: TypeAlias = TableFiller | SparseFiller


class Parts:
    """What one elaboration of an engine is made of; each of its methods reads and drives some of it."""

    def __init__(self, config: Config, filler: Filler) -> None:
        engines, bits = range(config.engines), config.weight_code.entry_bits
        self.filler = filler
        self.trees = [AdderTree(config.tables, bits) for _ in engines]
        self.accumulators = [RowAccumulator(config, bits + self.trees[0].levels) for _ in engines]
        self.advance = self.accumulators[0].advance  # engines and lanes move in step: the first speaks for all

        self.active = Signal()  # a tile streams
        self.tile = Signal(tile_layout(config))
        self.row = Signal(row_bits(config))  # its slice; counts from 1, modulo its width
        self.take, self.ends = Signal(), Signal()  # a word is taken; it is the tile's last

        # The slice whose word was taken in the last advanced cycle, age 1
        self.word = Signal(8 * config.word_bytes)
        self.slice_valid, self.slice_ends = Signal(), Signal()
        self.slice_first, self.slice_last, self.slice_bank = Signal(), Signal(), Signal()


class Engine(wiring.Component):
    """Multiplies ternary matrices, as they stream past, with vectors of activations: nearly all arithmetic of the model. An
    accelerator has one (a batch one for each slot). It works on one block of rows after the other,
    `rows[r] = sat18(sum_k trit[r, k] * q[k])`. `engine_of` makes the one of a configuration's weight code.

    Each code of a weight word is looked up in a table that holds the sum of its activations; the code's sign turns an addition
    of the tree into a subtraction. All rows of a tile stream while the tables of the next tile are filled in their other bank;
    partial sums wait in the row accumulator. E engines take a slice of E rows at a time: each has its own tables (all with the
    same entries, so fillers are shared), adder tree and accumulator. Vectors come and rows leave in E lanes: element or row j in
    lane j mod E. All lanes move in step.

    Ports
        activations: In, E streams of `Activation`: vectors, element by element; two fit. `last` ends one.
        commands: In stream of `EngineCommand`: one matrix block, `tiles` 1..max_tiles by `rows` slices 1..max_rows / E, times
            the oldest vector held; `release` forgets that vector after this block. Fewer elements in the vector than the
            last tile needs give wrong rows without notice.
        weights: In stream of E G bytes, for tile, for slice: bytes e G to e G + G - 1 are of row e of the slice; codes of
            docs/tape.md.
        rows: Out stream of E times signed 18, a slice, in order, during the last tile of each block.
        streaming, wait_output, wait_weights, wait_tables, wait_activations: Out, 1 bit each, exactly one is high in every
            cycle: a word is taken; the rows are not; there is no word; tables are still filling; there is no command or
            not its activations, and nothing to stream.
        saturated: Out: how many rows saturated in this cycle, 0..E.
    """

    def __init__(self, config: Config) -> None:
        self.config = config
        self.pipeline_cycles = pipeline_cycles(config)
        super().__init__(
            {
                "activations": In(stream.Signature(Activation)).array(config.engines),
                "commands": In(stream.Signature(EngineCommand)),
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
        m, parts = Module(), self._parts(self.config)
        filler, advance = parts.filler, parts.advance
        m.submodules.filler = filler
        self._submodules(m, parts)
        wiring.connect(m, wiring.flipped(self.commands), filler.commands)
        self._activations(m, parts)
        self._stream(m, parts)
        self._slice(m, parts)
        self._tables(m, parts)
        self._accumulate(m, parts)
        m.d.comb += [
            self.streaming.eq(parts.take),
            self.wait_output.eq(~advance),
            self.wait_weights.eq(parts.active & advance & ~self.weights.valid),
            self.wait_tables.eq(~parts.active & advance & ~filler.waiting),
            self.wait_activations.eq(~parts.active & advance & filler.waiting),
        ]
        return m

    @abstractmethod
    def _parts(self, config: Config) -> Parts:
        """The parts, with the filler and the memories of the code."""

    @abstractmethod
    def _submodules(self, m: Module, parts: Parts) -> None:
        """Memories, trees and accumulators become submodules."""

    @abstractmethod
    def _activations(self, m: Module, parts: Parts) -> None:
        """Activations reach the fillers."""

    @abstractmethod
    def _tables(self, m: Module, parts: Parts) -> None:
        """Tables: written by the fillers, read at age 1; their signs go to the trees one cycle before their sums, which come
        `table_cycles` later."""

    def _stream(self, m: Module, parts: Parts) -> None:
        """The tile that streams. A short block's next tile must wait until its rows are written."""
        filler, tiles, active, row = parts.filler, parts.filler.tiles, parts.active, parts.row
        m.d.comb += [
            self.weights.ready.eq(active & parts.advance),
            parts.take.eq(self.weights.valid & self.weights.ready),
            parts.ends.eq(parts.take & (row == parts.tile.rows)),
        ]
        settling = Signal(RowAccumulator.HAZARD_CYCLES - 2)  # a tile ended 2, 3 cycles ago
        short = Signal()
        with m.If(parts.advance):
            m.d.sync += settling.eq(Cat(parts.slice_ends, settling))
        settled = ~(parts.slice_ends | settling.any())
        m.d.comb += [
            tiles.ready.eq((~active & (~short | settled)) | (parts.ends & ~short)),
            filler.bank_busy.eq(parts.slice_ends & ~parts.advance),
        ]
        with m.If(parts.take):
            m.d.sync += row.eq(row + 1)
        with m.If(parts.ends):
            m.d.sync += active.eq(0)
        with m.If(tiles.valid & tiles.ready):
            rows = tiles.payload.rows
            m.d.sync += [active.eq(1), row.eq(1), parts.tile.eq(tiles.payload)]
            m.d.sync += short.eq(~rows[2:].any() & rows[:2].any())

    def _slice(self, m: Module, parts: Parts) -> None:
        """The word taken, and what must be known of it, in registers: age 1."""
        with m.If(parts.advance):
            m.d.sync += [
                parts.word.eq(self.weights.payload),
                parts.slice_valid.eq(parts.take),
                parts.slice_first.eq(parts.tile.first),
                parts.slice_last.eq(parts.tile.last),
                parts.slice_bank.eq(~parts.filler.bank),
                parts.slice_ends.eq(parts.ends),
            ]

    def _accumulate(self, m: Module, parts: Parts) -> None:
        """What belongs to a slice reaches the accumulators SUM_DELAY before its sum, which is ready at age
        1 + table_cycles + levels."""
        here = Cat(parts.slice_valid, parts.slice_first, parts.slice_last)
        where = Signal.like(parts.row)
        with m.If(parts.advance):
            m.d.sync += where.eq(parts.row)
        for age in range(2, table_cycles(self.config) + parts.trees[0].levels):
            here_next, where_next = Signal.like(here, name=f"slice_{age}"), Signal.like(parts.row, name=f"row_{age}")
            with m.If(parts.advance):
                m.d.sync += [here_next.eq(here), where_next.eq(where)]
            here, where = here_next, where_next
        for index, (tree, accumulator) in enumerate(zip(parts.trees, parts.accumulators)):
            m.d.comb += [
                Cat(accumulator.valid, accumulator.first, accumulator.last).eq(here),
                accumulator.row.eq(where),
                accumulator.total.eq(tree.total),
                accumulator.negated.eq(tree.negated),
                self.rows.payload[index].eq(accumulator.rows.payload),
                accumulator.rows.ready.eq(self.rows.ready),
            ]
        m.d.comb += [
            self.rows.valid.eq(parts.accumulators[0].rows.valid),
            self.saturated.eq(sum(accumulator.saturated for accumulator in parts.accumulators)),
        ]


def table_cycles(config: Config) -> int:
    """Cycles from the address of a table to its sum: a block RAM has a register behind it."""
    return 2 if config.weight_code is TERNARY5 or config.block_tables else 1


def pipeline_cycles(config: Config) -> int:
    """Cycles from a weight word of the last tile to its row's `valid`: 8 (6 where serial, one less with LUT RAM) and one for
    each level of the tree."""
    return latency(config) - 1 + table_cycles(config) + (config.tables - 1).bit_length()
