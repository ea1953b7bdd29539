"""Fills tables of 16 sums: two additions an entry, a filler a cycle behind the one before it."""

from __future__ import annotations

from amaranth.hdl import Cat, Module, Mux, Signal, signed, unsigned
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from tritape.hw.assertion import check
from tritape.hw.commands import EngineCommand
from tritape.hw.config import Config
from tritape.hw.engine.add_sub import AddSub
from tritape.hw.engine.sparse_activations import FOUR, batch_bits, batches, fillers, four_bits
from tritape.hw.engine.table_filler import tile_layout
from tritape.model.codes import SPARSE4

ENTRY_BITS, ADDRESS_BITS = SPARSE4.entry_bits, SPARSE4.address_bits


class SparseFiller(wiring.Component):
    """Fills the tables of `SparseEngine` from a tile of activations, while the tile before streams. An entry's address is its
    recipe (`tritape.model.codes.sparse4`): `p + q` or `p - q`, then `+ r` or `- r`. Tables have two banks, one filled and one
    read.

    Each of F fillers adds twice an entry, in two stages, and takes 16 cycles for a table: 8 with the zero in the second half of
    the four, 8 with it in the first. One memory of activations feeds all of them, four values a cycle: filler f works f cycles
    behind filler 0. Table i is filler (i mod F)'s, in batch i // F; a batch begins as soon as its activations are there.

    Ports
        commands: In stream of `EngineCommand`: one matrix block. `tiles` must be 1..max_tiles and `rows` 1..max_rows / E.
        four, half, batch, release: Out; values, available: In: to `SparseActivations`; `values` come 2 cycles after `four`.
        write_enable: Out, F times a bit a batch; write_address: Out, F times address and bank; entries: Out, F times signed
            10. The tables of all engines are written alike.
        tiles, bank, bank_busy, waiting: as of `TableFiller`.

    Rate: at most `sparse_fill_cycles(config)` from one transfer of `tiles` to the next, with commands and activations there.
    Latency: the first word may be read through the bank handed over 2 cycles after that transfer.
    Cost: about 32 LUT4 and 60 registers a filler, and about 50 LUT4. Tested: in `SparseEngine` (tests/test_hw_sparse_engine.py).
    """

    STEPS = SPARSE4.entries
    OVERHEAD_CYCLES = 4
    START_CYCLES = 3
    """Cycles from the acceptance of a batch's last activation to its first step."""

    def __init__(self, config: Config) -> None:
        self._config = config
        count, turns = fillers(config), batches(config)
        super().__init__(
            {
                "commands": In(stream.Signature(EngineCommand)),
                "available": In(1),
                "batch": Out(unsigned(batch_bits(config))),
                "four": Out(unsigned(four_bits(config))),
                "half": Out(1),
                "release": Out(1),
                "values": In(signed(8)).array(FOUR),
                "write_enable": Out(turns).array(count),
                "write_address": Out(ADDRESS_BITS + 1).array(count),
                "entries": Out(signed(ENTRY_BITS)).array(count),
                "tiles": Out(stream.Signature(tile_layout(config))),
                "bank": Out(1),
                "bank_busy": In(1),
                "waiting": Out(1),
            }
        )

    def elaborate(self, platform: object) -> Module:
        config, m = self._config, Module()
        tile, given = self.tiles.payload, self.commands.payload
        rows, first, last = Signal.like(tile.rows), Signal(), Signal()
        m.d.comb += [tile.rows.eq(rows), tile.first.eq(first), tile.last.eq(last)]
        with m.If(self.commands.valid):
            most = config.lane(config.max_rows)
            check(m, platform, (given.tiles >= 1) & (given.tiles <= config.max_tiles), "`tiles` must be 1..max_tiles")
            check(m, platform, (given.rows >= 1) & (given.rows <= most), "`rows` must be 1..max_rows / E")

        # The command that is worked on; it stays until its last tile was handed over.
        number = Signal(range(config.max_tiles + 1))
        commanded, tiles, release = Signal(), Signal.like(number), Signal()
        filled, ends = Signal(), Signal()
        m.d.comb += [self.commands.ready.eq(~commanded), last.eq(number == tiles), self.tiles.valid.eq(filled)]
        m.d.comb += self.release.eq(ends & release & last)
        drained = self._steps(m, commanded, filled, ends)
        with m.If(drained):
            m.d.sync += filled.eq(1)
        with m.If(self.tiles.valid & self.tiles.ready):
            m.d.sync += [filled.eq(0), self.bank.eq(~self.bank), number.eq(number + 1), first.eq(0)]
            with m.If(last):
                m.d.sync += commanded.eq(0)
        with m.If(~commanded):
            m.d.sync += [
                tiles.eq(given.tiles),
                rows.eq(given.rows),
                release.eq(given.release),
                first.eq(1),
                number.eq(1),
                self.batch.eq(0),
                commanded.eq(self.commands.valid),
            ]
        return m

    def _steps(self, m: Module, commanded: Signal, filled: Signal, ends: Signal) -> Signal:
        """Batch after batch of a tile, 16 steps each; `ends` in the last step of a tile. Returns: a cycle in which all that
        is left to write comes before a word can be read."""
        count, turns = fillers(self._config), batches(self._config)
        running, draining, begin = Signal(), Signal(), Signal()
        step, current = Signal(range(self.STEPS)), Signal.like(self.batch)
        turn, upcoming = Signal(turns, init=1), Signal(turns, init=1)  # one bit: the batch of the tile
        over = running & step.all()
        idle = ~running & ~draining & ~filled
        m.d.comb += [
            ends.eq(over & turn[-1]),
            begin.eq(commanded & self.available & ~self.bank_busy & (idle | (over & ~ends))),
            self.waiting.eq(idle & ~(commanded & self.available)),
            self.four.eq(Cat(step[: (count - 1).bit_length()], current)),
            self.half.eq(step[-1]),
        ]
        with m.If(running):
            m.d.sync += step.eq(step + 1)
        with m.If(over):
            m.d.sync += running.eq(0)
        with m.If(begin):
            m.d.sync += [running.eq(1), current.eq(self.batch), turn.eq(upcoming), self.batch.eq(self.batch + 1)]
            m.d.sync += upcoming.eq(upcoming.rotate_left(1))

        # What a step means, and so many cycles later.
        layout = data.StructLayout({"step": ADDRESS_BITS, "turn": turns, "bank": 1})
        now = Signal(layout)
        m.d.comb += [now.step.eq(step), now.turn.eq(turn & running.replicate(turns)), now.bank.eq(self.bank)]
        ages, ended = [now], ends
        for age in range(1, count + 5):
            later = Signal(layout, name=f"step_{age}")
            m.d.sync += later.eq(ages[-1])
            ages.append(later)
        for age in range(1, count + 3):
            later_end = Signal(name=f"ends_{age}")
            m.d.sync += later_end.eq(ended)
            ended = later_end
        with m.If(ends):
            m.d.sync += draining.eq(1)
        with m.Elif(ended):
            m.d.sync += draining.eq(0)
        for index in range(count):
            self._filler(m, index, ages[index + 2 : index + 6])
        return ended

    def _filler(self, m: Module, index: int, ages: list[Signal]) -> None:
        """Filler `index`: takes its four from `values` at age 0 of `ages`, makes p +- q at 1, adds r at 2, writes at 3."""
        take, pair, sum_, write = ages
        p, q, near, far = (Signal(signed(8), name=f"{name}_{index}") for name in ("p", "q", "near", "far"))
        with m.If(take.step[:3] == 0):
            m.d.sync += Cat(p, q, near, far).eq(Cat(self.values))
        m.submodules[f"addsub_pair_{index}"] = first = AddSub(8, 9)
        m.submodules[f"addsub_entry_{index}"] = second = AddSub(9, ENTRY_BITS)
        both, third = Signal(signed(9), name=f"both_{index}"), Signal(signed(8), name=f"third_{index}")
        m.d.comb += [first.a.eq(p), first.b.eq(q), first.subtract.eq(pair.step[1])]
        m.d.sync += [both.eq(first.result), third.eq(Mux(pair.step[2], far, near))]
        m.d.comb += [second.a.eq(both), second.b.eq(third), second.subtract.eq(sum_.step[0])]
        m.d.sync += self.entries[index].eq(second.result)
        m.d.comb += [
            self.write_address[index].eq(Cat(write.step, write.bank)),
            self.write_enable[index].eq(write.turn),
        ]


def sparse_fill_cycles(config: Config) -> int:
    """Cycles in which one tile's tables are filled, at most; with as many rows a tile the engine has no bubble."""
    return batches(config) * SparseFiller.STEPS + fillers(config) + SparseFiller.OVERHEAD_CYCLES
