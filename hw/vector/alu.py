"""Multiply, shift, round, add and saturate: the one arithmetic unit of the serial vector unit."""

from __future__ import annotations

from amaranth.hdl import Cat, Module, Mux, Signal, signed
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from tritape.hw.assertion import check

VALUE_MAX = 131071


class ALU(wiring.Component):
    """Does every multiplication of `SerialVector`, whatever the step: `result = sat18(round_shift(a * b, shift) + addend)`.

    Where round_shift(a * b, shift) itself leaves 18 bits the result is clamped by its sign, whatever the addend. There are no
    streams: it never stalls.

    Ports
        valid: In, u1: a and b are operands.
        a: In, s19. b: In, s18. shift: In, u6, must be 0..47.
        addend: In, s18, `ADDEND_DELAY` cycles after the operands.
        product: Out, s37: a * b, one cycle after the operands.
        result: Out, s18. magnitude: Out, u17: |result| where nothing saturates. Both hold until the next result.

    Rate: one a cycle. Latency: `LATENCY` cycles.
    Cost (iCE40): three multipliers of 16 x 16 and about 400 LUT4. Tested: every shift, extremes, random operands.
    Source: docs/contract.md.
    """

    LATENCY = 3
    ADDEND_DELAY = 2

    def __init__(self) -> None:
        super().__init__(
            {
                "valid": In(1),
                "a": In(signed(19)),
                "b": In(signed(18)),
                "shift": In(6),
                "addend": In(signed(18)),
                "product": Out(signed(37)),
                "result": Out(signed(18)),
                "magnitude": Out(17),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        with m.If(self.valid):
            check(m, platform, self.shift <= 47, "shift must be 0..47")
        shift_1, shift_2 = Signal(6), Signal(2)
        coarse = Signal(signed(38))  # (2 * product) >> 0, 16 or 32
        sign = coarse[-1]
        top = Signal(16)  # bits 21..36 of coarse that differ from its sign
        medium = Signal(signed(22))  # >> 0, 4, 8 or 12
        medium_over, medium_sign = Signal(), Signal()
        fine = Signal(signed(19))  # >> 0..3
        fine_over = Signal()
        m.d.comb += top.eq(Cat(bit ^ sign for bit in coarse[21:37]))
        with m.Switch(shift_1[4:]):
            for step in range(3):
                with m.Case(step) if step < 2 else m.Default():
                    m.d.comb += coarse.eq((self.product << 1) >> 16 * step)
        with m.Switch(shift_1[2:4]):
            for step in range(4):
                with m.Case(step):
                    m.d.sync += [medium.eq(coarse >> 4 * step), medium_over.eq(top[4 * step :].any())]
        with m.Switch(shift_2):
            for step in range(4):
                with m.Case(step):
                    differ = Cat(bit ^ medium_sign for bit in medium[18 + step :])
                    m.d.comb += [fine.eq(medium >> step), fine_over.eq(medium_over | differ.any())]

        total = Signal(signed(21))  # the 1 rounds, the addend counts twice
        rounded = Signal(signed(20))
        m.d.comb += [
            total.eq(fine + (Cat(1, self.addend)).as_signed()),
            rounded.eq(total >> 1),
        ]
        negative = rounded[-1]
        over = Cat(bit ^ negative for bit in rounded[17:19]).any() | (negative & ~rounded[:17].any())
        valid = Signal(2)
        m.d.sync += [
            valid.eq(Cat(self.valid, valid)),
            self.product.eq(self.a * self.b),
            shift_1.eq(self.shift),
            shift_2.eq(shift_1[:2]),
            medium_sign.eq(sign),
        ]
        with m.If(valid[1]):
            bound = Mux(Mux(fine_over, medium_sign, negative), -VALUE_MAX, VALUE_MAX)
            m.d.sync += [
                self.result.eq(Mux(fine_over | over, bound, rounded)),
                self.magnitude.eq((rounded[:17] ^ negative.replicate(17)) + negative),
            ]
        return m
