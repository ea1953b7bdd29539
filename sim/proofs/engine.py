"""The engine: tables are right, a bank is not read while it is written, the tree sums."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from amaranth.hdl import Array, Assert, Assume, Cat, Const, Module, Mux, Signal, Value, signed

from tritape.hw.config import Config
from tritape.hw.engine.activation_memory import DIGIT_BITS
from tritape.hw.engine.adder_tree import AdderTree
from tritape.hw.engine.table_engine import TableEngine
from tritape.hw.engine.table_filler import ENTRY_BITS, STEPS, TableFiller, script_layout
from tritape.model.codes.ternary5 import TRITS, walk
from tritape.sim.proofs.hold import Bench, chosen, drive, previous

SMALL = Config(groups=4, max_hidden=40, max_intermediate=60, max_layers=2, max_vocab=9, max_rows=4)
ONE_TILE = Config(groups=4, max_hidden=20, max_intermediate=20, max_layers=1, max_vocab=9, max_rows=4)


def _digits(magnitude: int) -> list[int]:
    """Balanced ternary digits of a number, the lowest first."""
    digits = []
    for _ in range(TRITS):
        digit = (magnitude + 1) % 3 - 1
        digits.append(digit)
        magnitude = (magnitude - digit) // 3
    return digits


def _script_invariants(m: Module, bench: Bench, step: list[Value], asked: list[Value]) -> None:
    """The words of the script on their way through the filler: those of the steps so many cycles ago."""
    inside, moves = bench.inside, walk()
    fields = {
        "magnitude": Array(magnitude for magnitude, _, _ in moves),
        "subtract": Array(int(sign < 0) for _, _, sign in moves),
        "clear": Array(int(sign == 0) for _, _, sign in moves),
    }
    digits = Array(digit for _, digit, _ in moves)
    active = [inside.signal(name) for name in ("running", "active_1", "active_2", "active_3", "active_4")]
    active.append(bench.outer["write_enable"][0])
    memory: Any = inside.part("script")
    read = Value.cast(memory._read_ports[0]._data)
    word = Value.cast(inside.signal("word"))
    m.d.comb += Assume(previous(m, Const(1)) | (read == 0), "block RAM gives 0 before its first read")
    for age, value in ((1, read), (2, word)):
        layout = script_layout
        for name, array in fields.items():
            part = value[layout[name].offset :][: layout[name].width]
            m.d.comb += Assert(~active[age] | (part == array[step[age]]), f"{name} of step {age}")
        part = value[layout["digit"].offset :][: layout["digit"].width]
        m.d.comb += Assert(~active[age] | (part == digits[step[age]]), f"digit of step {age}")
        ends = value[layout["ends_soon"].offset]
        m.d.comb += Assert(ends == (step[age] == STEPS - 3), f"the end of step {age}")
    for name in ("table", "table_1", "table_2", "table_3", "table_4"):
        m.d.comb += Assert(inside.signal(name) == 0, "one table a filler")
    for age in (3, 4):
        for name, array in fields.items():
            part = inside.signal(f"{name}_{age}")
            m.d.comb += Assert(~active[age] | (part == array[step[age]]), f"{name} of step {age}")
        m.d.comb += Assert(~active[age] | (asked[age - 2] == digits[step[age]]), f"digit of step {age}")
    for age in range(6):
        m.d.comb += Assert(Mux(active[age], step[age] < STEPS, step[age] == 0), f"step {age}")
        if age < 5:
            goes_on = Mux(active[age + 1], step[age] == step[age + 1] + 1, step[age] == 0)
            m.d.comb += Assert(~active[age] | goes_on, f"step {age} follows")
            m.d.comb += Assert(~active[age + 1] | active[age] | (step[age + 1] == STEPS - 1), f"step {age} is the last")


def tables_filled(kind: type[TableFiller] = TableFiller) -> Callable[[Module], list[Value]]:
    """A filling writes the entries in the order of `walk`, which has each once, one a cycle from the first to the last, and each
    entry is the sum of its digits' activations.

    Activations come two cycles after `digit`, as `ActivationMemory` gives them. One of them is 1 and the others are 0, whichever
    the solver likes: the filler only adds and subtracts, as a script says that does not depend on them, so these tell all.
    """
    order = [magnitude for magnitude, _, _ in walk()]
    assert sorted(order) == list(range(STEPS))

    def build(m: Module) -> list[Value]:
        bench = drive(m, kind(ONE_TILE))
        outer, inside = bench.outer, bench.inside
        one = chosen(m, DIGIT_BITS, "one")
        m.d.comb += Assume(one < TRITS, "an activation")
        digit = outer["digit"]
        asked = [digit, previous(m, digit)]
        asked.append(previous(m, asked[1]))
        m.d.comb += Assume(outer["values_0"] == (asked[2] == one), "activations come two cycles after their digit")
        address, enable, entry = outer["write_address"][:7], outer["write_enable"][0], outer["entries_0"]
        step: list[Value] = [inside.signal("step")]  # and where it was 1, 2, ... cycles ago: 5 from a step to its write
        for _ in range(6):
            step.append(previous(m, step[-1]))
        wanted = [
            Array(Const(_digits(number)[index], signed(ENTRY_BITS)) for number in order)[step[5]]
            for index in range(TRITS)
        ]
        was = previous(m, enable)
        m.d.comb += [
            Assert(~enable | (step[5] < STEPS), "a step"),
            Assert(~enable | (address == Array(order)[step[5]]), "the entry of the step"),
            Assert(~enable | (entry == Array(wanted)[one].as_unsigned()), "the right sum"),
            Assert(~enable | Mux(was, step[5] == step[6] + 1, step[5] == 0), "from the first step on, without a gap"),
            Assert(~was | enable | (step[6] == STEPS - 1), "to the last step"),
        ]
        _script_invariants(m, bench, step, asked)
        return [*bench.free, one]

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
        m.d.comb += Assert(
            ~(reads & writes.any()) | (address[-1] != inside.signal("slice_bank")), "the bank written is not read"
        )
        # Invariants: an old slice, of the bank that is to be filled, is the last of its tile, and nothing is filled meanwhile
        filling = [inside.signal(name, "filler") for name in ("running", "active_1", "active_2", "active_3")]
        filled, draining = inside.signal("filled", "filler"), inside.signal("active_4", "filler")
        old = valid & (inside.signal("slice_bank") == bank)
        handed = previous(m, filled & inside.given("tiles__ready", "filler"))
        m.d.comb += [
            Assert(
                ~old | (ends & ~Cat(*filling, draining, filled).any()),
                "an old slice is the last, and nothing is filled",
            ),
            Assert(inside.signal("active") | ~valid | ends, "between tiles only the last slice is there"),
            Assert(~filled | ~Cat(filling).any(), "what is filled is not being filled"),
            Assert(~writes.any() | (address[-1] == bank) | handed, "what is written is the bank that is filled"),
            Assert(~(handed & valid) | old, "the slice at the change of banks is old"),
            Assert(~handed | ~Cat(*filling, draining, filled).any(), "nothing is filled at once"),
        ]
        return bench.free

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
