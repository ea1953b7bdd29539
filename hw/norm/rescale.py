"""Multiply, round, shift and saturate: the arithmetic behind every real scale."""

from __future__ import annotations

from amaranth.hdl import Cat, Module, Mux, Signal, signed
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from tritape.hw.assertion import check

VALUE_MAX = 131071

RescaleOperands = data.StructLayout({"raw": signed(18), "factor": signed(18), "shift": 6})


class Rescale(wiring.Component):
    """Multiplies every element with a real number, given as a factor and a shift, for the dequantiser and for the output gates
    of MLGRU and channel mixer: `sat18(round_shift(raw * factor, shift))`.

    With `t = (2 * raw * factor) >> shift` the rounded result is `(t + 1) >> 1`. The shift goes coarse first (by 32 and
    16, then 12, 8 and 4, then 3, 2 and 1), so that every step needs fewer bits and only one flag says what overflowed.

    Ports
        `operands` (In stream): `raw` signed 18, `factor` signed 18, `shift` must be 0..47.
        `values` (Out stream): signed 18, -131071..131071.
        `saturated` (Out, 1): high for one cycle for each element that the saturation changed, with its first `valid`.

    Latency: `LATENCY` cycles. Rate: one element a cycle. `ready` of `operands` is one LUT behind `ready` of `values`.
    Cost: one 18 x 18 multiplier.
    Tested: all shifts, every pair of extreme operands and random ones, against `tritape.model.arith.rescale`.
    Source: docs/contract.md "Dequantiser".
    """

    LATENCY = 7

    def __init__(self) -> None:
        super().__init__(
            {
                "operands": In(stream.Signature(RescaleOperands)),
                "values": Out(stream.Signature(signed(18))),
                "saturated": Out(1),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        advance = Signal()
        valid = Signal(self.LATENCY)
        m.d.comb += [
            advance.eq(~self.values.valid | self.values.ready),
            self.operands.ready.eq(advance),
            self.values.valid.eq(valid[-1]),
        ]
        raw = Signal(signed(18))
        factor = Signal(signed(18))
        product = Signal(signed(36))
        shift_1 = Signal(6)
        shift_2 = Signal(6)
        shift_3 = Signal(4)
        shift_4 = Signal(2)
        coarse = Signal(signed(37))  # (2 * product) >> 32 or 16
        medium = Signal(signed(22))  # >> 12, 8 or 4
        medium_over = Signal()
        medium_sign = Signal()
        fine = Signal(signed(19))  # >> 3, 2 or 1
        fine_over = Signal()
        fine_sign = Signal()
        rounded = Signal(signed(19))
        clamp = Signal()
        sign = Signal()

        top = Signal(15)  # bits 21..35 of coarse that differ from its sign
        m.d.comb += top.eq(Cat(bit ^ coarse[36] for bit in coarse[21:36]))
        edge = Signal()  # the two in-range values of `fine` whose rounding leaves +/-131071
        m.d.comb += edge.eq(Mux(fine[18], ~fine[:18].any(), fine[:18].all()))

        with m.If(advance):
            m.d.sync += [
                valid.eq(Cat(self.operands.valid, valid)),
                raw.eq(self.operands.payload.raw),
                factor.eq(self.operands.payload.factor),
                shift_1.eq(self.operands.payload.shift),
                product.eq(raw * factor),
                shift_2.eq(shift_1),
                shift_3.eq(shift_2[:4]),
                shift_4.eq(shift_3[:2]),
                medium_sign.eq(coarse[36]),
                fine_sign.eq(medium_sign),
                rounded.eq((fine + 1) >> 1),
                clamp.eq(fine_over | edge),
                sign.eq(fine_sign),
                self.values.payload.eq(Mux(clamp, Mux(sign, -VALUE_MAX, VALUE_MAX), rounded)),
            ]
            with m.Switch(shift_2[4:]):
                for step in range(3):
                    with m.Case(step) if step < 2 else m.Default():
                        m.d.sync += coarse.eq((product << 1) >> 16 * step)
            with m.Switch(shift_3[2:]):
                for step in range(4):
                    with m.Case(step):
                        m.d.sync += [medium.eq(coarse >> 4 * step), medium_over.eq(top[4 * step :].any())]
            with m.Switch(shift_4):
                for step in range(4):
                    with m.Case(step):
                        differ = Cat(bit ^ medium_sign for bit in medium[18 + step :])
                        m.d.sync += [fine.eq(medium >> step), fine_over.eq(medium_over | differ.any())]
        with m.If(self.operands.valid):
            check(m, platform, self.operands.payload.shift <= 47, "`shift` must be 0..47")
        m.d.sync += self.saturated.eq(advance & valid[-2] & clamp)
        return m
