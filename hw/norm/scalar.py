"""The scalar unit: one reciprocal and one scale for each vector, bit by bit."""

from __future__ import annotations

from amaranth.hdl import Cat, Const, Module, Mux, Signal, signed
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from tritape.hw.assertion import check
from tritape.hw.exceeds import exceeds

ScalarOperands = data.StructLayout({"maximum": 17, "square_sum": 48, "eps": 48, "mantissa": 16, "exponent": signed(8)})
Reciprocal = data.StructLayout({"r": 17, "e": 5})
Scale = data.StructLayout({"mantissa": 17, "shift": 6})

_SHIFT_MAX = 47


class _Registers:
    """The registers of one elaboration of `Scalar`, and its restoring division; each of its states uses some of them."""

    def __init__(self, m: Module) -> None:
        self.divisor = Signal(18)  # Mn, later the root
        self.high = Signal(18)  # remainder and quotient; or the product
        self.low = Signal(17)
        self.e = Signal(5)
        self.shift = Signal(signed(10))
        self.mantissa = Signal(16)
        self.wide = Signal(50)  # A', top pair first
        self.pairs = Signal(5)  # shifts of two bits that are left
        self.rest = Signal(20)
        self.root = Signal(18)
        self.count = Signal(5)
        self.zero = Signal()  # M = 0

        # Always worked out, used in one state each: no multiplexer
        self._dividend, self._reduced = Signal(19), Signal(19)  # of a division
        self.added = Signal(18)  # of the product
        self.extended, self.trial = Signal(22), Signal(22)  # of the root
        m.d.comb += [
            self._dividend.eq(Cat(self.low[-1], self.high)),
            self._reduced.eq(self._dividend - self.divisor),
            self.added.eq(self.high + Mux(self.low[0], self.divisor, 0)),
            self.extended.eq(Cat(self.wide[48:], self.rest)),
            self.trial.eq(self.extended - Cat(Const(1, 2), self.root)),
        ]

    def divide(self) -> list:
        """Statements for one bit of a quotient."""
        fits = ~self._reduced[-1]  # dividend < 2 * divisor, so the difference never reaches bit 18
        return [
            self.high.eq(Mux(fits, self._reduced, self._dividend)),
            self.low.eq(Cat(fits, self.low)),
            self.count.eq(self.count - 1),
        ]


class Scalar(wiring.Component):
    """Works out the two numbers that a whole vector shares: the reciprocal that its quantiser multiplies with, then the scale
    that its projection's row sums are multiplied with. `VectorScalar` and `SerialVector` have one each.

    One register pair (`high`, `low`) and one subtractor serve, in this order: r = (127 << 26) // Mn in 17 steps of
    restoring division; 2 * Cm * Mn in 16 steps of shift and add; S = (2 * Cm * Mn) // root in 17 steps. The root takes
    two bits of A' a step from `wide`, which first moves left by two bits until its top pair is not zero.

    Ports
        `operands` (In stream): `maximum` M, `square_sum` A, `eps`, `mantissa` Cm (unsigned), `exponent` Ce (signed 8).
        `reciprocal` (Out stream): `r`, `e`. It comes first and must be taken before the scale is worked out.
        `scale` (Out stream): `mantissa` S, `shift` 0..47.

    Latency: `RECIPROCAL_LATENCY` cycles from `operands` to `reciprocal` for M >= 65536, and one more for each step of
    the normalising shift: with n = 17 - bit length of M these are n // 4 + n % 4 (M = 0: `ZERO_LATENCY` in all).
    `small`: n steps instead; about 60 LUTs fewer. `mantissa` must stay until the reciprocal is taken.
    The scale comes at most `SCALE_LATENCY` cycles after the reciprocal was taken. One vector at a time.
    Cost: no multiplier; about 500 LUTs. Source: docs/contract.md "RMSNorm and quantiser" and "Scalar unit".
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
        r = _Registers(m)
        m.d.comb += [
            self.reciprocal.payload.r.eq(r.low),
            self.reciprocal.payload.e.eq(r.e),
            self.scale.payload.mantissa.eq(r.low),
            self.scale.payload.shift.eq(r.shift),
        ]
        with m.FSM():
            with m.State("IDLE"):
                self._start(m, r)
            with m.State("MAXIMUM"):
                self._normalise(m, r)
            with m.State("INVERT"):
                m.d.sync += r.divide()
                with m.If(r.count == 0):
                    m.next = "RECIPROCAL"
            with m.State("RECIPROCAL"):
                self._give_reciprocal(m, platform, r)
            with m.State("MULTIPLY"):  # 16 steps leave 2 * Cm * Mn in high (17 bits) and low (17 bits)
                m.d.sync += [Cat(r.low, r.high).eq(Cat(r.low[1:], r.added)), r.count.eq(r.count - 1)]
                with m.If(r.count == 0):
                    m.next = "SQUARE SUM"
            with m.State("SQUARE SUM"):
                m.d.sync += [r.rest.eq(0), r.root.eq(0), r.count.eq(17)]
                with m.If(r.wide[48:] != 0):
                    m.next = "ROOT"
                with m.Elif(r.pairs == 0):  # A' is 0 and becomes 1
                    m.d.sync += r.wide[48].eq(1)
                with m.Else():
                    m.d.sync += [r.wide.eq(r.wide << 2), r.pairs.eq(r.pairs - 1), r.shift.eq(r.shift - 1)]
            with m.State("ROOT"):
                fits = ~r.trial[-1]
                m.d.sync += [r.wide.eq(r.wide << 2), r.count.eq(r.count - 1)]
                m.d.sync += [r.rest.eq(Mux(fits, r.trial, r.extended)), r.root.eq(Cat(fits, r.root))]
                with m.If(r.count == 0):
                    m.next = "CLIP"
            with m.State("CLIP"):
                m.d.sync += [r.divisor.eq(r.root), r.count.eq(16)]
                with m.If(r.shift < 0):
                    m.d.sync += r.shift.eq(0)
                with m.Elif(exceeds(r.shift[:-1], _SHIFT_MAX)):
                    m.d.sync += r.shift.eq(_SHIFT_MAX)
                m.next = "DIVIDE"
            with m.State("DIVIDE"):
                m.d.sync += r.divide()
                with m.If(r.count == 0):
                    m.next = "SCALE"
            with m.State("SCALE"):
                m.d.comb += self.scale.valid.eq(1)
                with m.If(self.scale.ready):
                    m.next = "IDLE"
        return m

    def _start(self, m: Module, r: _Registers) -> None:
        """State IDLE: take the operands of a vector."""
        operands = self.operands.payload
        m.d.comb += self.operands.ready.eq(1)
        m.d.sync += [
            r.divisor.eq(operands.maximum),
            r.e.eq(17),
            r.wide.eq(operands.square_sum + operands.eps),
            r.mantissa.eq(operands.mantissa),
            r.shift.eq(8 - operands.exponent),  # 18 - Ce - 17 + 7, then + (17 - e) and - (k + 7) step by step
            r.zero.eq(operands.maximum == 0),
            r.high.eq(127 << 9),
            r.low.eq(0),
            r.count.eq(16),
            r.pairs.eq(24),
        ]
        with m.If(self.operands.valid):
            m.next = "MAXIMUM"

    def _normalise(self, m: Module, r: _Registers) -> None:
        """State MAXIMUM: shift M left until its top bit is 1."""
        with m.If(r.zero):
            m.d.sync += [r.e.eq(0), r.shift.eq(0)]
            m.next = "RECIPROCAL"
        with m.Elif(r.divisor[16]):
            m.next = "INVERT"
        with m.Elif(Const(0) if self._small else r.divisor[13:17] == 0):
            m.d.sync += [r.divisor.eq(r.divisor << 4), r.e.eq(r.e - 4), r.shift.eq(r.shift + 4)]
        with m.Else():
            m.d.sync += [r.divisor.eq(r.divisor << 1), r.e.eq(r.e - 1), r.shift.eq(r.shift + 1)]

    def _give_reciprocal(self, m: Module, platform: object, r: _Registers) -> None:
        """State RECIPROCAL: offer it, then go on to the scale."""
        given = self.operands.payload.mantissa
        m.d.comb += self.reciprocal.valid.eq(1)
        m.d.sync += r.count.eq(15)
        with m.If(self.reciprocal.ready):
            m.d.sync += [r.high.eq(0), r.low.eq(given if self._small else r.mantissa)]
            m.next = "MULTIPLY"
            with m.If(r.zero):
                m.d.sync += r.low.eq(0)
                m.next = "SCALE"
        if self._small:
            check(m, platform, given == r.mantissa, "`mantissa` must stay until the reciprocal is taken")
