"""A value times its two norm gains."""

from __future__ import annotations

from amaranth.hdl import Cat, Module, Mux, Signal, signed
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

GainOperands = data.StructLayout(
    {"value": signed(18), "first_gain": signed(16), "product_gain": signed(16), "last": 1, "quantise": 1, "keep": 1}
)
GainedElement = data.StructLayout(
    {"first": signed(18), "negative": 1, "magnitude": 17, "last": 1, "quantise": 1, "keep": 1}
)


class ApplyGains(wiring.Component):
    """Multiplies an element with the norm gains, for `RMSNorm`: `v = round_shift(x * g1, 15)`, of which the statistics need
    the square, and `u = round_shift(x * g12, 15)`, which is quantised.

    Ports
        `operands` (In stream): `value` x signed 18 (-131071..131071), `first_gain` g1 and `product_gain` g12 signed 16
        (-32767..32767); `last`, `quantise` and `keep` go along unchanged.
        `elements` (Out stream): `first` v; u as `magnitude` |u| and `negative`.

    Latency: `LATENCY` cycles. Rate: one element a cycle.
    Cost: two 18 x 18 multipliers. Tested with extreme and random operands against `arith.apply_gain`.
    Source: docs/contract.md "RMSNorm and quantiser".
    """

    LATENCY = 4

    def __init__(self) -> None:
        super().__init__(
            {"operands": In(stream.Signature(GainOperands)), "elements": Out(stream.Signature(GainedElement))}
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        operands, elements = self.operands.payload, self.elements.payload
        advance = Signal()
        valid = Signal(self.LATENCY)
        m.d.comb += [
            advance.eq(~self.elements.valid | self.elements.ready),
            self.operands.ready.eq(advance),
            self.elements.valid.eq(valid[-1]),
        ]
        value = Signal(signed(18))
        first_gain = Signal(signed(16))
        product_gain = Signal(signed(16))
        products = [Signal(signed(34), name=f"product_{name}") for name in ("v", "u")]
        v = Signal(signed(18))
        u = Signal(signed(18))
        flags = [Signal(3, name=f"flags_{stage}") for stage in (1, 2, 3)]
        with m.If(advance):
            m.d.sync += [
                valid.eq(Cat(self.operands.valid, valid)),
                value.eq(operands.value),
                first_gain.eq(operands.first_gain),
                product_gain.eq(operands.product_gain),
                products[0].eq(value * first_gain),
                products[1].eq(value * product_gain),
                v.eq(((products[0] >> 14) + 1) >> 1),
                u.eq(((products[1] >> 14) + 1) >> 1),
                elements.first.eq(v),
                elements.magnitude.eq(Mux(u < 0, -u, u)),
                elements.negative.eq(u < 0),
                flags[0].eq(Cat(operands.last, operands.quantise, operands.keep)),
                flags[1].eq(flags[0]),
                flags[2].eq(flags[1]),
                Cat(elements.last, elements.quantise, elements.keep).eq(flags[2]),
            ]
        return m
