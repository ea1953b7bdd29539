"""The engine of `ternary5`: a weight byte is the address of a sum of five activations."""

from __future__ import annotations

from amaranth.hdl import Cat, Module, Signal, signed
from amaranth.lib import wiring
from amaranth.lib.memory import Memory

from tritape.hw.config import Config
from tritape.hw.engine.activation_memory import ActivationMemory, fillers
from tritape.hw.engine.engine import Engine, Parts
from tritape.hw.engine.table_filler import ENTRY_BITS, TableFiller
from tritape.model.codes.ternary5 import MAGNITUDE_BITS


class TableParts(Parts):
    """With a memory of activations for each lane."""

    filler: TableFiller

    def __init__(self, config: Config) -> None:
        super().__init__(config, TableFiller(config))
        self.memories = [ActivationMemory(config) for _ in range(config.engines)]


class TableEngine(Engine):
    """Multiplies matrices in `ternary5` with vectors of activations, 5 E G multiply-accumulates a cycle. Ports: `Engine`.

    A weight byte is the sign and magnitude of a balanced ternary number of five digits. Its magnitude is looked up in a
    table that holds the sum of the five activations with those digits. A tile is 5 G activations; those of lane e are in
    tables e G / E and following.

    Rate: one word a cycle, across tiles and blocks, while the slices of a tile are at least `fill_cycles(config)`; else
    one tile in `fill_cycles(config)` cycles (and a few more for blocks of 1 to 3 slices).
    Latency: `pipeline_cycles` cycles from a word of the last tile to its slice's `valid`.
    Cost at G = 16 and 1 table a filler, ECP5 speed grade 6 (`tritape area engine --route`): 719 LUT4 (9.0 for each of
    the 80 multiply-accumulates), 1,466 registers with the harness, 35 block RAMs, no DSP, 129 MHz (120 to 129 over
    three seeds of placement). With 2 tables a filler: 590 LUT4, 27 block RAMs.
    Tested: G = 4, 5, 13, 16, 26 and E = 1 to 5 on Verilator and Icarus, blocks of 1 to 257 rows.
    """

    def _parts(self, config: Config) -> TableParts:
        return TableParts(config)

    def _submodules(self, m: Module, parts: Parts) -> None:
        assert isinstance(parts, TableParts)
        for index, (memory, tree, accumulator) in enumerate(zip(parts.memories, parts.trees, parts.accumulators)):
            m.submodules[f"activation_memory_{index}"] = memory
            m.submodules[f"tree_{index}"], m.submodules[f"accumulator_{index}"] = tree, accumulator

    def _activations(self, m: Module, parts: Parts) -> None:
        """The fillers read the activation memories of all lanes at the same place."""
        assert isinstance(parts, TableParts)
        filler, per_lane = parts.filler, fillers(self.config)
        for index, memory in enumerate(parts.memories):
            wiring.connect(m, wiring.flipped(self.activations[index]), memory.activations)
            m.d.comb += [
                memory.tile.eq(filler.tile),
                memory.table.eq(filler.table),
                memory.digit.eq(filler.digit),
                memory.release.eq(filler.release),
                *(filler.values[index * per_lane + place].eq(value) for place, value in enumerate(memory.values)),
            ]
        m.d.comb += filler.available.eq(parts.memories[0].available)

    def _tables(self, m: Module, parts: Parts) -> None:
        """Tables: read at age 1, their output register at age 3; their signs go to the trees one cycle before."""
        assert isinstance(parts, TableParts)
        config, filler, advance, per_lane = self.config, parts.filler, parts.advance, fillers(self.config)
        for index in range(config.word_bytes):
            engine, group = divmod(index, config.groups)
            lane, place = divmod(group, config.lane_groups)
            source = lane * per_lane + place // config.tables_per_filler
            table = Memory(shape=signed(ENTRY_BITS), depth=2 << MAGNITUDE_BITS, init=[], attrs={"no_rw_check": 1})
            m.submodules[f"table_{index}"] = table
            read, write = table.read_port(), table.write_port()
            byte = parts.word.word_select(index, 8)
            m.d.comb += [
                read.addr.eq(Cat(byte[:MAGNITUDE_BITS], parts.slice_bank)),
                read.en.eq(advance),
                write.addr.eq(filler.write_address),
                write.data.eq(filler.entries[source]),
                write.en.eq(filler.write_enable[place % config.tables_per_filler]),
            ]
            with m.If(advance):
                m.d.sync += parts.trees[engine].values[group].eq(read.data)
        negate = Signal(config.word_bytes)
        with m.If(advance):
            m.d.sync += negate.eq(Cat(parts.word.word_select(index, 8)[-1] for index in range(config.word_bytes)))
        for index, tree in enumerate(parts.trees):
            m.d.comb += [tree.enable.eq(advance), tree.negate.eq(negate.word_select(index, config.groups))]
