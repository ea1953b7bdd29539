"""Maximum and sum of squares of a vector."""

from __future__ import annotations

from amaranth.hdl import Module, Mux, Signal, signed
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

StatisticsElement = data.StructLayout({"first": signed(18), "magnitude": 17, "last": 1, "keep": 1})
StatisticsResult = data.StructLayout({"maximum": 17, "square_sum": 48})


class Statistics(wiring.Component):
    """Measures a vector before it is quantised, for `RMSNorm`: `M = max |u|` and `A = sum v^2`.

    Ports
        `elements` (In stream): `first` v signed 18, `magnitude` |u| unsigned 17, `last` 1 for the vector's last element,
        `keep` 1 (in every element) to give A of the vector before instead.
        `result` (Out stream): `maximum` 17 bits, `square_sum` 48 bits (which up to 16384 elements cannot exceed).

    Latency: `LATENCY` cycles from the last element. Rate: one element a cycle; a result that nobody takes stops it.
    Cost: one 18 x 18 multiplier. Tested with vectors of 1 to 300 elements against `arith.statistics`.
    Source: docs/contract.md "RMSNorm and quantiser".
    """

    LATENCY = 2

    def __init__(self) -> None:
        super().__init__(
            {"elements": In(stream.Signature(StatisticsElement)), "result": Out(stream.Signature(StatisticsResult))}
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        element, result = self.elements.payload, self.result.payload
        advance = Signal()
        valid = Signal()
        last = Signal()
        keep = Signal()
        start = Signal(init=1)  # the element in the first stage is a vector's first
        square = Signal(36)
        magnitude = Signal(17)
        m.d.comb += [advance.eq(~self.result.valid | self.result.ready), self.elements.ready.eq(advance)]
        with m.If(advance):
            m.d.sync += [
                valid.eq(self.elements.valid),
                last.eq(element.last),
                keep.eq(element.keep),
                square.eq(element.first * element.first),
                magnitude.eq(element.magnitude),
                self.result.valid.eq(valid & last),
            ]
            with m.If(valid):
                m.d.sync += start.eq(last)
                with m.If(~keep):
                    m.d.sync += result.square_sum.eq(Mux(start, 0, result.square_sum) + square)
                with m.If(start | (magnitude > result.maximum)):
                    m.d.sync += result.maximum.eq(magnitude)
        return m
