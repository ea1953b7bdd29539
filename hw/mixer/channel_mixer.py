"""The gated channel mixer: SiLU of the gate row times the up row."""

from __future__ import annotations

from amaranth import Module, Signal, signed
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out

from tritape.hw.commands import MixerCommand
from tritape.hw.mixer.silu import SiLU
from tritape.hw.norm.rescale import Rescale


class ChannelMixer(wiring.Component):
    """Mixes channels: joins the two up-projections of a layer, whose rows come in pairs, to the vector of its down-projection.
    A `Lane` has one. For every pair of values (gate, up) it gives one element
    `sat18(round_shift(up * silu(gate), shift))`.

    Ports
        commands: In, `MixerCommand`; pairs = 0 does nothing
        values: In, s18: a gate pre-activation (11 fraction bits), then the raw sum of its up row, and so on
        elements: Out, s18
        saturated: Out, u1: high for one cycle for each element that sat18 changed

    Rate: one value a cycle, so one element every second cycle. A command is taken when the last pair of the one before is
    in the final multiplication.
    Latency: `LATENCY` cycles from the transfer of an up value to `valid` of its element when nothing stalls.
    Cost: one block RAM (the sigma table), two 18 x 18 multipliers, about 540 flip-flops. Tested for 1 to 97 pairs,
    extremes, saturation, shifts 0 to 47. No errors. Source: docs/contract.md, "Gated channel mixer".
    """

    LATENCY = SiLU.LATENCY + Rescale.LATENCY

    def __init__(self) -> None:
        super().__init__(
            {
                "commands": In(stream.Signature(MixerCommand)),
                "values": In(stream.Signature(signed(18))),
                "elements": Out(stream.Signature(signed(18))),
                "saturated": Out(1),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        m.submodules.silu = silu = SiLU()
        m.submodules.product = product = Rescale()

        shift = Signal(6)
        to_take = Signal(15)  # pairs of the command that have not come yet
        to_finish = Signal(15)  # ... that are not yet in the final multiplication
        have_gate = Signal()
        gate = Signal(signed(18))

        taking = Signal()  # to_take is not 0: a register, because every unit in front waits for it
        activated = silu.activated
        m.d.comb += [
            self.commands.ready.eq(~to_finish.any()),
            self.values.ready.eq(taking & (~have_gate | silu.values.ready)),
            silu.values.valid.eq(self.values.valid & taking & have_gate),
            silu.values.payload.value.eq(gate),
            silu.values.payload.operand.eq(self.values.payload),
            product.operands.valid.eq(activated.valid),
            product.operands.payload.raw.eq(activated.payload.operand),
            product.operands.payload.factor.eq(activated.payload.silu),
            product.operands.payload.shift.eq(shift),
            activated.ready.eq(product.operands.ready),
            self.saturated.eq(product.saturated),
        ]
        wiring.connect(m, product.values, wiring.flipped(self.elements))

        with m.If(self.values.valid & self.values.ready):
            m.d.sync += have_gate.eq(~have_gate)
            with m.If(have_gate):
                m.d.sync += [to_take.eq(to_take - 1), taking.eq(to_take != 1)]
            with m.Else():
                m.d.sync += gate.eq(self.values.payload)
        with m.If(activated.valid & activated.ready):
            m.d.sync += to_finish.eq(to_finish - 1)
        with m.If(self.commands.valid & self.commands.ready):
            pairs = self.commands.payload.pairs
            m.d.sync += [shift.eq(self.commands.payload.shift), to_take.eq(pairs), to_finish.eq(pairs)]
            m.d.sync += taking.eq(pairs.any())
        return m
