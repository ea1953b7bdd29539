"""Adder and subtractor in one carry chain."""

from __future__ import annotations

from amaranth.hdl import Module, Mux, signed
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out


class AddSub(wiring.Component):
    """Adds or subtracts in one carry chain, for the engine's trees, fillers and accumulators, which are mostly made of these:
    `result = a - b if subtract else a + b`, combinational.

    Ports
        a, b: In, signed `width`. subtract: In, u1.
        result: Out, signed `result_width`, exact where it has one bit more than `width`, else modulo 2^result_width (the
            caller knows that the sum fits).

    Cost: one LUT4 a bit where the synthesiser merges the pair into one chain. Vendor tools do. Yosys does with `share` on
    the modules of this class, which is why it is a module of its own: instances are called `addsub...`, and
    `tritape.rtl_gen.area` selects them by that name. Tested: in `AdderTree` and `RowAccumulator`.
    """

    def __init__(self, width: int, result_width: int) -> None:
        super().__init__(
            {
                "a": In(signed(width)),
                "b": In(signed(width)),
                "subtract": In(1),
                "result": Out(signed(result_width)),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        m.d.comb += self.result.eq(Mux(self.subtract, self.a - self.b, self.a + self.b))
        return m
