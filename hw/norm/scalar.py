"""The scalar unit: one reciprocal and one scale for each vector, bit by bit."""

from __future__ import annotations

from amaranth.hdl import Cat, Const, Module, Mux, Signal, signed
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from tritape.hw.exceeds import exceeds

ScalarOperands = data.StructLayout({"maximum": 17, "square_sum": 48, "eps": 48, "mantissa": 16, "exponent": signed(8)})
Reciprocal = data.StructLayout({"r": 17, "e": 5})
Scale = data.StructLayout({"mantissa": 17, "shift": 6})

_SHIFT_MAX = 47


class Scalar(wiring.Component):
    """Reciprocal of M, then the scale of a vector: docs/contract.md "RMSNorm and quantiser" and "Scalar unit".

    One register pair (`high`, `low`) and one subtractor serve, in this order: r = (127 << 26) // Mn in 17 steps of
    restoring division; 2 * Cm * Mn in 16 steps of shift and add; S = (2 * Cm * Mn) // root in 17 steps. The root takes
    two bits of A' a step from `wide`, which first moves left by two bits until its top pair is not zero.

    Ports
        `operands` (In stream): `maximum` M, `square_sum` A, `eps`, `mantissa` Cm (unsigned), `exponent` Ce (signed 8).
        `reciprocal` (Out stream): `r`, `e`. It comes first and must be taken before the scale is worked out.
        `scale` (Out stream): `mantissa` S, `shift` 0..47.

    Latency: `RECIPROCAL_LATENCY` cycles from `operands` to `reciprocal` for M >= 65536, and one more for each step of
    the normalising shift: with n = 17 - bit length of M these are n // 4 + n % 4 (M = 0: `ZERO_LATENCY` in all).
    `small`: n steps instead, and `mantissa` must stay until the reciprocal is taken; about 60 LUTs fewer.
    The scale comes at most `SCALE_LATENCY` cycles after the reciprocal was taken. One vector at a time.
    Cost: no multiplier; about 500 LUTs.
    Tested: all bit lengths of M, A from 0 to 2^48 - 1, extreme constants, against `arith.reciprocal` and `arith.scale`.
    """

    RECIPROCAL_LATENCY = 19
    ZERO_LATENCY = 2
    SCALE_LATENCY = 16 + 26 + 18 + 1 + 17 + 1  # product, shift, root, clip, division, output

    def __init__(self, *, small: bool = False) -> None:
        self._small = small
        super().__init__(
            {
                "operands": In(stream.Signature(ScalarOperands)),
                "reciprocal": Out(stream.Signature(Reciprocal)),
                "scale": Out(stream.Signature(Scale)),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        operands = self.operands.payload
        divisor = Signal(18)  # Mn, later the root
        high = Signal(18)  # remainder and quotient; or the product
        low = Signal(17)
        e = Signal(5)
        shift = Signal(signed(10))
        mantissa = Signal(16)
        wide = Signal(50)  # A', top pair first
        pairs = Signal(5)  # shifts of two bits that are left
        rest = Signal(20)
        root = Signal(18)
        count = Signal(5)
        zero = Signal()  # M = 0

        # Restoring division, one bit of the quotient a step
        dividend = Signal(19)
        reduced = Signal(19)
        m.d.comb += [dividend.eq(Cat(low[-1], high)), reduced.eq(dividend - divisor)]

        def divide() -> list:
            fits = ~reduced[-1]  # dividend < 2 * divisor, so the difference never reaches bit 18
            return [high.eq(Mux(fits, reduced, dividend)), low.eq(Cat(fits, low)), count.eq(count - 1)]

        # Square root, one bit of the root a step
        extended = Signal(22)
        trial = Signal(22)
        m.d.comb += [
            extended.eq(Cat(wide[48:], rest)),
            trial.eq(extended - Cat(Const(1, 2), root)),
        ]
        added = Signal(18)
        m.d.comb += added.eq(high + Mux(low[0], divisor, 0))

        m.d.comb += [
            self.reciprocal.payload.r.eq(low),
            self.reciprocal.payload.e.eq(e),
            self.scale.payload.mantissa.eq(low),
            self.scale.payload.shift.eq(shift),
        ]
        with m.FSM():
            with m.State("IDLE"):
                m.d.comb += self.operands.ready.eq(1)
                m.d.sync += [
                    divisor.eq(operands.maximum),
                    e.eq(17),
                    wide.eq(operands.square_sum + operands.eps),
                    mantissa.eq(operands.mantissa),
                    shift.eq(8 - operands.exponent),  # 18 - Ce - 17 + 7, then + (17 - e) and - (k + 7) step by step
                    zero.eq(operands.maximum == 0),
                    high.eq(127 << 9),
                    low.eq(0),
                    count.eq(16),
                    pairs.eq(24),
                ]
                with m.If(self.operands.valid):
                    m.next = "MAXIMUM"
            with m.State("MAXIMUM"):
                with m.If(zero):
                    m.d.sync += [e.eq(0), shift.eq(0)]
                    m.next = "RECIPROCAL"
                with m.Elif(divisor[16]):
                    m.next = "INVERT"
                with m.Elif(Const(0) if self._small else divisor[13:17] == 0):
                    m.d.sync += [divisor.eq(divisor << 4), e.eq(e - 4), shift.eq(shift + 4)]
                with m.Else():
                    m.d.sync += [divisor.eq(divisor << 1), e.eq(e - 1), shift.eq(shift + 1)]
            with m.State("INVERT"):
                m.d.sync += divide()
                with m.If(count == 0):
                    m.next = "RECIPROCAL"
            with m.State("RECIPROCAL"):
                m.d.comb += self.reciprocal.valid.eq(1)
                m.d.sync += count.eq(15)
                with m.If(self.reciprocal.ready):
                    m.d.sync += [high.eq(0), low.eq(operands.mantissa if self._small else mantissa)]
                    m.next = "MULTIPLY"
                    with m.If(zero):
                        m.d.sync += low.eq(0)
                        m.next = "SCALE"
            with m.State("MULTIPLY"):  # 16 steps leave 2 * Cm * Mn in high (17 bits) and low (17 bits)
                m.d.sync += [Cat(low, high).eq(Cat(low[1:], added)), count.eq(count - 1)]
                with m.If(count == 0):
                    m.next = "SQUARE SUM"
            with m.State("SQUARE SUM"):
                m.d.sync += [rest.eq(0), root.eq(0), count.eq(17)]
                with m.If(wide[48:] != 0):
                    m.next = "ROOT"
                with m.Elif(pairs == 0):  # A' is 0 and becomes 1
                    m.d.sync += wide[48].eq(1)
                with m.Else():
                    m.d.sync += [wide.eq(wide << 2), pairs.eq(pairs - 1), shift.eq(shift - 1)]
            with m.State("ROOT"):
                m.d.sync += [wide.eq(wide << 2), count.eq(count - 1)]
                m.d.sync += [rest.eq(Mux(trial[-1], extended, trial)), root.eq(Cat(~trial[-1], root))]
                with m.If(count == 0):
                    m.next = "CLIP"
            with m.State("CLIP"):
                m.d.sync += [divisor.eq(root), count.eq(16)]
                with m.If(shift < 0):
                    m.d.sync += shift.eq(0)
                with m.Elif(exceeds(shift[:-1], _SHIFT_MAX)):
                    m.d.sync += shift.eq(_SHIFT_MAX)
                m.next = "DIVIDE"
            with m.State("DIVIDE"):
                m.d.sync += divide()
                with m.If(count == 0):
                    m.next = "SCALE"
            with m.State("SCALE"):
                m.d.comb += self.scale.valid.eq(1)
                with m.If(self.scale.ready):
                    m.next = "IDLE"
        return m
