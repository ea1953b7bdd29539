"""Values to signed bytes."""

from __future__ import annotations

from amaranth.hdl import Cat, Module, Mux, Signal
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from tritape.hw.commands import Activation
from tritape.hw.norm.scalar import Reciprocal

QuantiserElement = data.StructLayout({"negative": 1, "magnitude": 17, "last": 1})


class Quantiser(wiring.Component):
    """Makes the engine's signed bytes from the elements of a vector, for `RMSNorm`, with the vector's reciprocal r, e of
    `Scalar`: `q = sign(u) * ((|u| * r + 2^(8+e)) >> (9+e))`.

    With t = (|u| * r) >> (8+e), 9 bits, the magnitude is (t + 1) >> 1; adding its lowest bit and negating is one adder.

    Ports
        `reciprocal` (In stream): `r` unsigned 17, `e` 0..17. One is taken before the first element of each vector.
        `elements` (In stream): u as `magnitude` unsigned 17 and `negative`; `last` 1 for the vector's last element.
        `activations` (Out stream): `value` signed 8, -127..127, `last`.

    Latency: `LATENCY` cycles from an element, `LATENCY + 1` from the reciprocal to the first activation.
    Rate: one element a cycle, one idle cycle or more between vectors.
    Cost: one 17 x 17 multiplier. Tested with every e against `arith.quantise`. Source: docs/contract.md "RMSNorm and quantiser".
    """

    LATENCY = 4

    def __init__(self) -> None:
        super().__init__(
            {
                "reciprocal": In(stream.Signature(Reciprocal)),
                "elements": In(stream.Signature(QuantiserElement)),
                "activations": Out(stream.Signature(Activation)),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        element, activation = self.elements.payload, self.activations.payload
        advance = Signal()
        take = Signal()
        ready = Signal()  # r and e are those of the vector that the next element belongs to
        r = Signal(17)
        e = Signal(5)
        m.d.comb += [
            advance.eq(~self.activations.valid | self.activations.ready),
            self.elements.ready.eq(advance & ready),
            take.eq(self.elements.valid & ready),
        ]
        valid = Signal(self.LATENCY)
        e_1 = Signal(5)  # e moves with the elements, since the next vector may follow at once
        e_2 = Signal(2)
        last = Signal(3)
        negative = Signal(3)
        product = Signal(34)
        coarse = Signal(12)
        fine = Signal(9)
        m.d.comb += [self.reciprocal.ready.eq(~ready), self.activations.valid.eq(valid[-1])]
        with m.If(~ready):
            m.d.sync += [
                ready.eq(self.reciprocal.valid),
                r.eq(self.reciprocal.payload.r),
                e.eq(self.reciprocal.payload.e),
            ]
        with m.If(advance):
            m.d.sync += [
                valid.eq(Cat(take, valid)),
                last.eq(Cat(element.last, last)),
                negative.eq(Cat(element.negative, negative)),
                product.eq(element.magnitude * r),
                e_1.eq(e),
                e_2.eq(e_1[:2]),
                activation.value.eq(Mux(negative[2], ~fine[1:], fine[1:]) + (fine[0] ^ negative[2])),
                activation.last.eq(last[2]),
            ]
            with m.If(take & element.last):
                m.d.sync += ready.eq(0)
            with m.Switch(e_1[2:]):
                for step in range(5):
                    with m.Case(step) if step < 4 else m.Default():
                        m.d.sync += coarse.eq(product >> 8 + 4 * step)
            with m.Switch(e_2):
                for step in range(4):
                    with m.Case(step):
                        m.d.sync += fine.eq(coarse >> step)
        return m
