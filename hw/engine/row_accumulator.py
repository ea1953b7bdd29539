"""Partial sums of all rows of a block, and the saturated rows that come out of the last tile."""

from __future__ import annotations

from itertools import pairwise

from amaranth.hdl import Cat, Const, Module, Signal, Value, signed, unsigned
from amaranth.lib import stream, wiring
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import In, Out

from tritape.hw.assertion import check
from tritape.hw.config import Config
from tritape.hw.engine.add_sub import AddSub

ROW_BITS = 18


class RowAccumulator(wiring.Component):
    """Adds up the sums of a row over the tiles of a block, for all rows of one engine, and gives the finished rows:
    `memory[row] = (0 if first else memory[row]) + (-1)^negated * total`; with `last`, `sat18` of that sum leaves.

    Everything moves in cycles with `advance` only ("advanced cycles"). The same row must not come again within
    `HAZARD_CYCLES` advanced cycles unless `first`.

    Ports
        valid, first, last: In, u1; row: In, bits of max_rows: where a slice's sum belongs.
        total: In, signed `total_width`; negated: In, u1: its sum, `SUM_DELAY` advanced cycles later.
        advance: Out, u1: the caller's pipeline moves in this cycle; a register.
        rows: Out stream of signed 18.
        saturated: Out, u1: a pulse for each clamp that changed a value.

    Rate: one slice an advanced cycle, all of them while `rows` is ready.
    Latency: `latency(config)` cycles from the slice's address to its row's `valid`, with `rows` always ready.
    Cost: one adder of `width` bits (of 128 * 5 G * max_tiles, signed), 18 LUT4 to hold a row back, one memory of max_rows
    x `width`. Tested: tests/test_hw_row_accumulator.py, against sums of Python.
    """

    SUM_DELAY = 2
    HAZARD_CYCLES = 4

    def __init__(self, config: Config, total_width: int) -> None:
        self._config = config
        self.width = row_width(config)
        super().__init__(
            {
                "valid": In(1),
                "first": In(1),
                "last": In(1),
                "row": In(unsigned(row_bits(config))),
                "total": In(signed(total_width)),
                "negated": In(1),
                "advance": Out(1),
                "rows": Out(stream.Signature(signed(ROW_BITS))),
                "saturated": Out(1),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        m.submodules.memory = memory = Memory(
            shape=signed(self.width), depth=1 << row_bits(self._config), init=[], attrs={"no_rw_check": 1}
        )
        read, write = memory.read_port(), memory.write_port()
        m.submodules.addsub = adder = AddSub(self.width, self.width)

        valid = [self.valid] + [Signal(name=f"valid_{age}") for age in (1, 2, 3)]
        emit = [self.valid & self.last] + [Signal(name=f"emit_{age}") for age in range(1, latency(self._config))]
        row = [self.row] + [Signal.like(self.row, name=f"row_{age}") for age in (1, 2, 3)]
        again = [valid[age] & (row[age] == self.row) for age in range(1, self.HAZARD_CYCLES)]
        with m.If(self.advance & self.valid & ~self.first):
            text = "the same row must not come again within `HAZARD_CYCLES` advanced cycles unless `first`"
            check(m, platform, ~Cat(again).any(), text)
        first = Signal()
        prior = Signal(signed(self.width))  # age 2
        result = Signal(signed(self.width))  # age 3
        m.d.comb += [
            read.addr.eq(self.row),
            read.en.eq(self.advance),
            adder.a.eq(prior),
            adder.b.eq(self.total),
            adder.subtract.eq(self.negated),
            write.addr.eq(row[3]),
            write.data.eq(result),
            write.en.eq(valid[3]),
        ]

        with m.If(self.advance):
            for chain in (valid, emit, row):
                for before, after in pairwise(chain):
                    m.d.sync += after.eq(before)
            m.d.sync += first.eq(self.first)
            m.d.sync += prior.eq(read.data)
            m.d.sync += result.eq(adder.result)
        # Apart from the condition above: a reset input of the registers, no multiplexer.
        with m.If(self.advance & first):
            m.d.sync += prior.eq(0)
        row_value = Signal(signed(ROW_BITS))
        saturate = self._saturate_at_once if self._config.serial else self._saturate
        saturate(m, result, row_value, emit)

        # A row that cannot leave waits in `held`, so that `advance` is a register.
        held, holding = Signal(signed(ROW_BITS)), Signal()
        m.d.comb += self.advance.eq(~holding)
        free = self.rows.ready | ~self.rows.valid
        with m.If(self.advance):
            m.d.sync += held.eq(row_value)
        with m.If(free):
            m.d.sync += holding.eq(0)
            m.d.sync += self.rows.valid.eq(holding | emit[-1])
            with m.If(holding):
                m.d.sync += self.rows.payload.eq(held)
            with m.Else():
                m.d.sync += self.rows.payload.eq(row_value)
        with m.Elif(self.advance & emit[-1]):
            m.d.sync += holding.eq(1)
        return m

    def _saturate(self, m: Module, result: Signal, row_value: Signal, emit: list[Value]) -> None:
        """sat18 of `result` (age 3) in three registers and no multiplexer: find, set on overflow, clear on underflow."""
        high = result[ROW_BITS - 1 :]  # the sign and what lies above 17 bits
        negative = result[-1]
        found = Signal(signed(ROW_BITS))  # age 4
        over, under, under_later = Signal(), Signal(), Signal()
        ones = ((1 << ROW_BITS - 2) - 1) << 1  # a register's set input needs it to start at 1
        raised = Signal(signed(ROW_BITS), init=ones, reset_less=True)  # age 5; row_value is age 6
        body = slice(1, ROW_BITS - 1)
        with m.If(self.advance):
            m.d.sync += [
                found.eq(result),
                found[-1].eq(negative),
                over.eq(~negative & high.any()),
                under.eq(negative & (~high.all() | ~result[: ROW_BITS - 1].any())),
            ]
            m.d.sync += [raised.eq(found), under_later.eq(under)]
            m.d.sync += raised[0].eq(found[0] | over | under)
            m.d.sync += row_value.eq(raised)
        # Outside the condition above: set and reset inputs of the registers, instead of multiplexers.
        with m.If(self.advance & over):
            m.d.sync += raised[body].eq(Const(-1, signed(ROW_BITS - 2)))
        with m.If(self.advance & under_later):
            m.d.sync += row_value[body].eq(0)
        m.d.comb += self.saturated.eq(self.advance & emit[4] & (over | under))

    def _saturate_at_once(self, m: Module, result: Signal, row_value: Signal, emit: list[Value]) -> None:
        """The same in one register behind a multiplexer, for slow clocks: `row_value` is age 4."""
        negative = result[-1]
        over = ~negative & result[ROW_BITS - 1 :].any()
        under = negative & (~result[ROW_BITS - 1 :].all() | ~result[: ROW_BITS - 1].any())
        with m.If(self.advance):
            m.d.sync += row_value.eq(result)
            with m.If(over | under):
                m.d.sync += row_value.eq(Cat(1, over.replicate(ROW_BITS - 2), negative))
        m.d.comb += self.saturated.eq(self.advance & emit[3] & (over | under))


def row_width(config: Config) -> int:
    """Bits of a partial sum: of 128 * tile * max_tiles, signed."""
    return max(ROW_BITS, (128 * config.tile * config.max_tiles).bit_length() + 1)


def row_bits(config: Config) -> int:
    """Bits of a row's address in one engine."""
    return max(1, (config.lane(config.max_rows) - 1).bit_length())


def latency(config: Config) -> int:
    """Cycles from a slice's address to its row's `valid`."""
    return 5 if config.serial else 7
