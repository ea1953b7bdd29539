"""Row sums to values: by the projection's scale, or unchanged."""

from __future__ import annotations

from amaranth.hdl import Module, Mux, Signal, signed
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from tritape.hw.assertion import check
from tritape.hw.commands import DequantiserCommand, Pattern
from tritape.hw.norm.rescale import Rescale
from tritape.hw.norm.scalar import Scale
from tritape.hw.stream.skid import Skid

DequantiserValue = data.StructLayout({"value": signed(18), "destination": 2})


class Dequantiser(wiring.Component):
    """Turns the engine's row sums into values of 18 bits with 11 fraction bits, as a `Lane`'s units want them:
    `y = sat18(round_shift(raw * S, shift))`, or `y = raw` for rows that a gate will multiply.

    Raw rows go through the same `Rescale`, times 1 and shift 0, so all rows stay in order.

    Ports
        `commands` (In stream, `DequantiserCommand`): `rows` must be 1..65535; `pattern` (`Pattern`) `SCALE_ALL`, `PASS_ALL`
        raw, `SCALE_EVEN` to scale rows 0, 2, 4, ... of the command and pass the others raw; `take` 1 to take a new scale
        first; `destination` goes along with the values.
        `scales` (In stream, `Scale`): `mantissa` S 17 bits, `shift` 0..47.
        `rows` (In stream): signed 18, -131071..131071.
        `values` (Out stream, `DequantiserValue`): `value` signed 18, `destination` (`Destination`).
        `saturated` (Out, 1): high for one cycle for each element that the saturation changed.

    Rate: one row a cycle. Two or more idle cycles between commands: a command is taken after the last row of the one
    before, a scale one cycle later; a new destination waits until the rows of the old one are out.
    Latency: `LATENCY` cycles from a row.
    Cost: one `Rescale`. Tested: all patterns and destinations, extreme scales, against `arith.rescale` and `sat18`.
    Source: docs/contract.md "Dequantiser".
    """

    LATENCY = Rescale.LATENCY + Skid.LATENCY

    def __init__(self) -> None:
        super().__init__(
            {
                "commands": In(stream.Signature(DequantiserCommand)),
                "scales": In(stream.Signature(Scale)),
                "rows": In(stream.Signature(signed(18))),
                "values": Out(stream.Signature(DequantiserValue)),
                "saturated": Out(1),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        m.submodules.rescale = rescale = Rescale()
        m.submodules.skid = skid = Skid(DequantiserValue)
        wiring.connect(m, skid.sink, wiring.flipped(self.values))
        operands = rescale.operands.payload

        command = Signal(DequantiserCommand)
        scale = Signal(Scale)
        left = Signal(16)
        odd = Signal()
        destination = Signal(2)  # of the rows inside `rescale`
        inside = Signal(range(Rescale.LATENCY + 1))
        enter = Signal()
        leave = Signal()
        scaled = Signal()
        m.d.comb += [
            enter.eq(rescale.operands.valid & rescale.operands.ready),
            leave.eq(rescale.values.valid & rescale.values.ready),
            scaled.eq((command.pattern == Pattern.SCALE_ALL) | ((command.pattern == Pattern.SCALE_EVEN) & ~odd)),
            operands.raw.eq(self.rows.payload),
            operands.factor.eq(Mux(scaled, scale.mantissa, 1)),
            operands.shift.eq(Mux(scaled, scale.shift, 0)),
            skid.source.valid.eq(rescale.values.valid),
            skid.source.payload.value.eq(rescale.values.payload),
            skid.source.payload.destination.eq(destination),
            rescale.values.ready.eq(skid.source.ready),
            self.saturated.eq(rescale.saturated),
        ]
        m.d.sync += inside.eq(inside + enter - leave)
        with m.If(enter):
            m.d.sync += [left.eq(left - 1), odd.eq(~odd)]
        with m.If(self.commands.valid):
            check(m, platform, self.commands.payload.rows != 0, "`rows` must be 1..65535")
        with m.FSM():
            with m.State("IDLE"):
                m.d.comb += self.commands.ready.eq(1)
                m.d.sync += [command.eq(self.commands.payload), left.eq(self.commands.payload.rows - 1), odd.eq(0)]
                with m.If(self.commands.valid):
                    m.next = "PREPARE"
            with m.State("PREPARE"):
                m.d.comb += self.scales.ready.eq(command.take)
                with m.If(self.scales.valid & command.take):
                    m.d.sync += [scale.eq(self.scales.payload), command.take.eq(0)]
                with m.If((self.scales.valid | ~command.take) & ((inside == 0) | (destination == command.destination))):
                    m.d.sync += destination.eq(command.destination)
                    m.next = "ROWS"
            with m.State("ROWS"):
                m.d.comb += [
                    rescale.operands.valid.eq(self.rows.valid),
                    self.rows.ready.eq(rescale.operands.ready),
                ]
                with m.If(enter & (left == 0)):
                    m.next = "IDLE"
        return m
