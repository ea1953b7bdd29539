"""Fills the tables: walks all sums of five activations, one addition a step."""

from __future__ import annotations

from itertools import pairwise

from amaranth.hdl import Cat, Module, Mux, Signal, signed, unsigned
from amaranth.lib import data, stream, wiring
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import In, Out

from tritape.hw.assertion import check
from tritape.hw.commands import EngineCommand
from tritape.hw.config import Config
from tritape.hw.engine.activation_memory import DIGIT_BITS, fillers, table_bits, tile_bits
from tritape.hw.engine.add_sub import AddSub
from tritape.hw.engine.row_accumulator import row_bits
from tritape.model.codes.ternary5 import MAGNITUDE_BITS, TERNARY5, walk

ENTRY_BITS, STEPS = TERNARY5.entry_bits, TERNARY5.entries


class TableFiller(wiring.Component):
    """Fills the tables of `TableEngine` from a tile of activations, while the tile before streams: a table's entry for a
    weight byte of magnitude |v| is `entry[|v|] = sum_k trit_k(v) * x_k`. Tables have two banks, one filled and one read.

    All fillers follow one script (`walk`, in a block RAM). Each is one accumulator that adds or subtracts the element it
    reads, and serves its `tables_per_filler` tables one after another.

    Ports
        commands: In stream of `EngineCommand`: one matrix block. `tiles` must be 1..max_tiles and `rows` 1..max_rows / E.
        tile, table, digit, release: Out; values, available: In: to `ActivationMemory`; `values` come 2 cycles after `digit`.
        write_enable: Out: bit j writes table j of every filler. write_address: Out: bank and magnitude.
        entries: Out, array of signed 11, one a filler, lane by lane; the tables of all engines are written alike.
        tiles: Out stream of {rows, first, last}: the tile's tables are filled in `bank`. A transfer hands over the filled
            bank; filling continues in the other one.
        bank: Out, u1: the bank that is being filled, or is filled.
        bank_busy: In, u1: hold it high until the other bank has been read.
        waiting: Out, u1: nothing to fill: no command, or its activations are not there.

    Rate: at most `fill_cycles(config)` from one transfer of `tiles` to the next, with commands and activations there.
    Latency: the first word may be read through the bank handed over 2 cycles after that transfer.
    Cost: about 16 LUT4 and an 8 x 11 bit memory a filler, one block RAM for the script and about 60 LUT4.
    Tested: the script in tests/test_hw_table_filler.py, tables in tests/test_hw_engine.py. Source: docs/contract.md.
    """

    OVERHEAD_CYCLES = 6

    def __init__(self, config: Config) -> None:
        self._config = config
        count = config.engines * fillers(config)
        super().__init__(
            {
                "commands": In(stream.Signature(EngineCommand)),
                "available": In(1),
                "tile": Out(unsigned(tile_bits(config)), init=1),
                "table": Out(unsigned(table_bits(config))),
                "digit": Out(unsigned(DIGIT_BITS)),
                "release": Out(1),
                "values": In(signed(8)).array(count),
                "write_enable": Out(config.tables_per_filler),
                "write_address": Out(1 + MAGNITUDE_BITS),
                "entries": Out(signed(ENTRY_BITS)).array(count),
                "tiles": Out(stream.Signature(tile_layout(config))),
                "bank": Out(1),
                "bank_busy": In(1),
                "waiting": Out(1),
            }
        )

    def elaborate(self, platform: object) -> Module:
        config, m = self._config, Module()
        tile = self.tiles.payload
        rows, first, last = Signal.like(tile.rows), Signal(), Signal()
        m.d.comb += [tile.rows.eq(rows), tile.first.eq(first), tile.last.eq(last)]

        given = self.commands.payload
        with m.If(self.commands.valid):
            most = config.lane(config.max_rows)
            check(m, platform, (given.tiles >= 1) & (given.tiles <= config.max_tiles), "`tiles` must be 1..max_tiles")
            check(m, platform, (given.rows >= 1) & (given.rows <= most), "`rows` must be 1..max_rows / E")

        # The command that is worked on; it stays until its last tile was handed over.
        commanded, tiles, release = Signal(), Signal.like(self.tile), Signal()
        m.d.comb += [self.commands.ready.eq(~commanded), last.eq(self.tile == tiles)]

        # running: the script goes on; filled: the tile waits for the streamer.
        running, ending, filled = Signal(), Signal(), Signal()
        step, table = Signal(range(STEPS)), Signal(table_bits(config))
        walk_ends = Signal()
        last_table = table == config.tables_per_filler - 1
        handed = self.tiles.valid & self.tiles.ready
        start = commanded & self.available & ~running & ~ending & ~filled
        m.d.comb += self.waiting.eq(~running & ~ending & ~filled & ~(commanded & self.available))
        with m.If(start & ~self.bank_busy):
            m.d.sync += running.eq(1)
        with m.If(running):
            m.d.sync += step.eq(step + 1)
        with m.If(walk_ends):
            m.d.sync += [step.eq(0), table.eq(table + 1)]
            with m.If(last_table):
                m.d.sync += [table.eq(0), running.eq(0)]

        # Script: read in cycle 0, registered in 2, element read in 2, registered in 4, added in 5, written in 5.
        m.submodules.script = script = Memory(
            shape=script_layout,
            depth=1 << MAGNITUDE_BITS,
            init=_script(),
            attrs={"rom_style": "block", "ram_style": "block"},
        )
        read = script.read_port()
        word = Signal(script_layout)
        m.d.comb += [read.addr.eq(step), walk_ends.eq(word.ends_soon)]
        m.d.sync += word.eq(read.data)
        magnitude = [word.magnitude] + [Signal(MAGNITUDE_BITS, name=f"magnitude_{cycle}") for cycle in (3, 4)]
        subtract = [word.subtract] + [Signal(name=f"subtract_{cycle}") for cycle in (3, 4)]
        clear = [word.clear] + [Signal(name=f"clear_{cycle}") for cycle in (3, 4)]
        tables = [table] + [Signal.like(table, name=f"table_{cycle}") for cycle in (1, 2, 3, 4)]
        active = [running] + [Signal(name=f"active_{cycle}") for cycle in (1, 2, 3, 4)]
        for chain in (magnitude, subtract, clear, tables, active):
            for before, after in pairwise(chain):
                m.d.sync += after.eq(before)
        m.d.comb += [self.digit.eq(word.digit), self.table.eq(tables[2])]
        m.d.sync += self.write_address.eq(Cat(magnitude[-1], self.bank))
        for index in range(config.tables_per_filler):
            m.d.sync += self.write_enable[index].eq(active[-1] & (tables[-1] == index))
        for index, (value, entry) in enumerate(zip(self.values, self.entries)):
            m.submodules[f"addsub_{index}"] = adder = AddSub(ENTRY_BITS, ENTRY_BITS)
            m.d.comb += [adder.a.eq(entry), adder.b.eq(value), adder.subtract.eq(subtract[-1])]
            m.d.sync += entry.eq(Mux(clear[-1], 0, adder.result))

        # The last entry is written 2 cycles after `filled`, just before the first word can be read.
        m.d.comb += [
            ending.eq(active[1] | active[2] | active[3]),
            self.release.eq(active[3] & ~active[2] & release & last),
        ]
        m.d.comb += self.tiles.valid.eq(filled)
        with m.If(active[3] & ~active[2]):
            m.d.sync += filled.eq(1)
        with m.If(handed):
            m.d.sync += [filled.eq(0), self.bank.eq(~self.bank), self.tile.eq(self.tile + 1), first.eq(0)]
            with m.If(last):
                m.d.sync += commanded.eq(0)
        with m.If(~commanded):
            m.d.sync += [
                tiles.eq(self.commands.payload.tiles),
                rows.eq(self.commands.payload.rows),
                release.eq(self.commands.payload.release),
                first.eq(1),
                self.tile.eq(1),
                commanded.eq(self.commands.valid),
            ]
        return m


script_layout = data.StructLayout(
    {"magnitude": MAGNITUDE_BITS, "digit": DIGIT_BITS, "subtract": 1, "clear": 1, "ends_soon": 1}
)


def _script() -> list[dict[str, int]]:
    """`walk` for the block RAM; `ends_soon` comes out while the last step is read."""
    return [
        {
            "magnitude": v,
            "digit": digit,
            "subtract": int(sign < 0),
            "clear": int(sign == 0),
            "ends_soon": int(index == STEPS - 3),
        }
        for index, (v, digit, sign) in enumerate(walk())
    ]


def tile_layout(config: Config) -> data.StructLayout:
    """What the streamer must know of a filled tile: `rows` modulo 2^bits, first and last of its block."""
    return data.StructLayout({"rows": row_bits(config), "first": 1, "last": 1})


def fill_cycles(config: Config) -> int:
    """Cycles in which one tile's tables are filled, at most; with as many rows a tile the engine has no bubble."""
    return config.tables_per_filler * STEPS + TableFiller.OVERHEAD_CYCLES
