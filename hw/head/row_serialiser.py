"""Logits of all lanes, one slice at a time, become one stream."""

from __future__ import annotations

from amaranth.hdl import Cat, Module, Signal, signed
from amaranth.lib import data, stream, wiring
from amaranth.lib.fifo import SyncFIFOBuffered
from amaranth.lib.wiring import In, Out

from tritape.hw.assertion import check
from tritape.hw.commands import HeadCommand

LOGIT_BITS = 18


class RowSerialiser(wiring.Component):
    """Makes one stream of logits from those of E lanes, for the head of `PipelinedVector`: logit r is lane `r mod E` of slice
    `r // E`. Logits come out in order. What pads the last slice is dropped.

    The head takes one logit a cycle while the last tile of a block gives E: a block of slices waits here, so that the
    engines go on with the next block meanwhile.

    Ports
        commands: In stream, `HeadCommand`: `rows` must be 1 or more; one at a time.
        slices: In stream of E signed 18: ceil(rows / E) a command. They may come before their command.
        rows: Out stream of signed 18.

    Rate: one logit a cycle. Latency: `LATENCY` cycles from a slice to its first logit's `valid`.
    Cost: a memory of `depth` x 18 E bits, about 18 E LUT4. Tested: E = 2, 3, 5, 1 to 60 rows (tests/test_hw_row_serialiser.py).
    Source: docs/architecture.md, "Lanes".
    """

    LATENCY = 3

    def __init__(self, engines: int, depth: int) -> None:
        self._engines, self._depth = engines, depth
        super().__init__(
            {
                "commands": In(stream.Signature(HeadCommand)),
                "slices": In(stream.Signature(data.ArrayLayout(signed(LOGIT_BITS), engines))),
                "rows": Out(stream.Signature(signed(LOGIT_BITS))),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        width = LOGIT_BITS * self._engines
        lanes = Signal(width, reset_less=True)
        m.submodules.memory = memory = SyncFIFOBuffered(width=width, depth=self._depth)
        m.d.comb += [
            memory.w_data.eq(Cat(self.slices.payload)),
            memory.w_en.eq(self.slices.valid),
            self.slices.ready.eq(memory.w_rdy),
            self.rows.payload.eq(lanes[:LOGIT_BITS]),
        ]
        with m.If(self.commands.valid):
            check(m, platform, self.commands.payload.rows != 0, "`rows` must be 1 or more")
        lane = Signal(self._engines, init=1)  # one bit: the lane that leaves
        left, one_left = Signal(17), Signal()  # logits of the command not yet given out; there is one
        busy = Signal()
        leaves = self.rows.valid & self.rows.ready
        m.d.comb += self.commands.ready.eq(~busy)
        with m.If(self.commands.valid & self.commands.ready):
            rows = self.commands.payload.rows
            m.d.sync += [busy.eq(rows.any()), left.eq(rows), one_left.eq(rows == 1)]
        with m.If(leaves):
            m.d.sync += [lanes.eq(lanes >> LOGIT_BITS), lane.eq(lane << 1), left.eq(left - 1), one_left.eq(left == 2)]
            with m.If(one_left):
                m.d.sync += [busy.eq(0), self.rows.valid.eq(0)]
            with m.Elif(lane[-1]):
                m.d.sync += self.rows.valid.eq(0)
        # The next slice: nothing is there, or the last lane leaves and the command goes on.
        m.d.comb += memory.r_en.eq(busy & (~self.rows.valid | (leaves & lane[-1] & ~one_left)))
        with m.If(memory.r_en & memory.r_rdy):
            m.d.sync += [self.rows.valid.eq(1), lanes.eq(memory.r_data), lane.eq(1)]
        return m
