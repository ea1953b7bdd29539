"""The engine: tables are right, a bank is not read while it is written, a row does not come back too soon, the tree sums."""

from __future__ import annotations

from collections.abc import Callable
from unittest import mock

from amaranth.hdl import Array, Assert, Assume, Cat, Const, Module, Mux, Signal, Value, signed

from tritape.hw.config import TRITS, Config
from tritape.hw.engine import table_engine
from tritape.hw.engine.adder_tree import AdderTree
from tritape.hw.engine.table_engine import TableEngine
from tritape.hw.engine.table_filler import ENTRY_BITS, STEPS, TableFiller
from tritape.sim.proofs.broken import broken
from tritape.sim.proofs.hold import chosen, drive, previous

SMALL = Config(groups=4, max_hidden=40, max_intermediate=60, max_layers=2, max_vocab=9, max_rows=4)
ONE_TILE = Config(groups=4, max_hidden=20, max_intermediate=20, max_layers=1, max_vocab=9, max_rows=4, tables_per_filler=4)
SHORT = 4


def _short_filler() -> type[TableFiller]:
    """A filler whose script has few steps, so that several tiles pass within few cycles."""
    return broken(TableFiller, "STEPS = (3**TRITS + 1) // 2", f"STEPS = {SHORT}")


def _digits(magnitude: int) -> list[int]:
    """Balanced ternary digits of a number, the lowest first."""
    digits = []
    for _ in range(TRITS):
        digit = (magnitude + 1) % 3 - 1
        digits.append(digit)
        magnitude = (magnitude - digit) // 3
    return digits


def _sum(values: list[Signal], digits: list[int]) -> Value:
    total: Value = Const(0, signed(ENTRY_BITS))
    for value, digit in zip(values, digits):
        total = (total + digit * value.as_signed()) if digit else total
    return total[:ENTRY_BITS]


def _tables(values: list[Signal], magnitude: Value) -> Value:
    """The entry that a table must have for a magnitude."""
    return Array(_sum(values, _digits(number)) for number in range(STEPS))[magnitude]


def tables_filled(kind: type[TableFiller] = TableFiller) -> Callable[[Module], list[Value]]:
    """From the handing over of a command to its tile, each entry of a table is written once, with the sum of its digits'
    activations. The activations stay as they are meanwhile, as `ActivationMemory` gives them: two cycles after `digit`."""

    def build(m: Module) -> list[Value]:
        bench = drive(m, kind(Config(groups=4, max_hidden=20, max_intermediate=20, max_layers=1, max_rows=4)))
        outer = bench.outer
        values = [chosen(m, 8, f"x_{index}") for index in range(TRITS)]
        asked = previous(m, previous(m, outer["digit"]))
        element = Array([*values, *[Const(0, 8)] * 3])[asked]
        m.d.comb += Assume(outer["values_0"] == element, "activations come two cycles after their digit")
        written = Signal(1 << 7)
        address, enable = outer["write_address"][:7], outer["write_enable"][0]
        begins = outer["commands"][0] & outer["commands"][2]
        with m.If(enable):
            m.d.sync += written.bit_select(address, 1).eq(1)
        with m.If(begins):
            m.d.sync += written.eq(0)
        m.d.comb += [
            Assert(~enable | ~written.bit_select(address, 1), "no entry twice"),
            Assert(~enable | (address < STEPS), "no other entry"),
            Assert(~enable | (outer["entries_0"] == _tables(values, address)), "the right sum"),
        ]
        filled = previous(m, previous(m, outer["tiles"][0]))
        m.d.comb += Assert(~filled | begins | written[:STEPS].all(), "every entry is written two cycles after the tile is offered")
        return [*bench.free, *values]

    return build


def bank_is_quiet(kind: type[TableEngine] = TableEngine, config: Config = SMALL) -> Callable[[Module], list[Value]]:
    """No table is read in the bank that is written."""

    def build(m: Module) -> list[Value]:
        bench = drive(m, kind(config))
        inside = bench.inside
        valid, ends = inside.signal("slice_valid"), inside.signal("slice_ends")
        advance, bank = inside.signal("advance", "accumulator_0"), inside.signal("bank", "filler")
        writes, address = inside.signal("write_enable", "filler"), inside.signal("write_address", "filler")
        reads = advance & valid
        m.d.comb += Assert(~(reads & writes.any()) | (address[-1] != inside.signal("slice_bank")), "the bank written is not read")
        # Invariants: an old slice, of the bank that is to be filled, is the last of its tile, and nothing is filled meanwhile
        filling = [inside.signal(name, "filler") for name in ("running", "active_1", "active_2", "active_3")]
        filled, draining = inside.signal("filled", "filler"), inside.signal("active_4", "filler")
        old = valid & (inside.signal("slice_bank") == bank)
        handed = previous(m, filled & inside.given("tiles__ready", "filler"))
        m.d.comb += [
            Assert(~old | (ends & ~Cat(*filling, draining, filled).any()), "an old slice is the last, and nothing is filled"),
            Assert(inside.signal("active") | ~valid | ends, "between tiles only the last slice is there"),
            Assert(~filled | ~Cat(filling).any(), "what is filled is not being filled"),
            Assert(~writes.any() | (address[-1] == bank) | handed, "what is written is the bank that is filled"),
            Assert(~(handed & valid) | old, "the slice at the change of banks is old"),
            Assert(~handed | ~Cat(*filling, draining, filled).any(), "nothing is filled at once"),
        ]
        return bench.free

    return build


def rows_apart(kind: type[TableEngine] = TableEngine, config: Config = SMALL) -> Callable[[Module], list[Value]]:
    """A row does not come again before it is written: the check in `RowAccumulator`, which is proved here and not assumed.

    With a filler whose script has few steps, so that several tiles pass within the bound."""

    def build(m: Module) -> list[Value]:
        with mock.patch.object(table_engine, "TableFiller", _short_filler()):
            return drive(m, kind(config)).free

    return build


def tree(kind: type[AdderTree] = AdderTree, count: int = 4, width: int = 4) -> Callable[[Module], list[Value]]:
    """(-1)^negated * total is the sum of (-1)^negate[i] * values[i], `latency` enabled cycles later."""

    def build(m: Module) -> list[Value]:
        dut = kind(count, width)
        bench = drive(m, dut)
        outer, enable = bench.outer, bench.outer["enable"]

        def later(value: Value) -> Signal:
            stage = Signal(value.shape())
            with m.If(enable):
                m.d.sync += stage.eq(value)
            return stage

        signs = later(outer["negate"])
        total: Value = Const(0, signed(1))
        for index in range(count):
            value = outer[f"values_{index}"].as_signed()
            total = total + Mux(signs[index], -value, value)
        wanted = Signal(signed(len(total)))
        m.d.comb += wanted.eq(total)
        expected: Value = wanted
        started: Value = later(Const(1))
        for _ in range(dut.latency):
            expected, started = later(expected), later(started)
        got = outer["total"].as_signed()
        m.d.comb += Assert(~started | (Mux(outer["negated"], -got, got) == expected.as_signed()), "the sum")
        return bench.free

    return build
