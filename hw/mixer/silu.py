"""Logistic and SiLU of pre-activations: one table, one multiplier."""

from __future__ import annotations

from itertools import pairwise

from amaranth import Cat, Const, Module, Mux, Signal, signed, unsigned
from amaranth.lib import data, stream, wiring
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import In, Out

from tritape.model.arith import SIGMA, SIGMA_ONE

Preactivation = data.StructLayout({"value": signed(18), "operand": signed(18)})
Activated = data.StructLayout({"sigma": unsigned(16), "silu": signed(18), "operand": signed(18)})


class SiLU(wiring.Component):
    """The model's one nonlinear function, SiLU, and the logistic function sigma in it, for every element of `MLGRU` and
    `ChannelMixer`, which have one each. An operand is carried along.

        index = min((|a| + 16) >> 5, 1023)
        sigma = SIGMA[index] for a >= 0, else 32768 - SIGMA[index]
        silu  = round_shift(a * sigma, 15)

    Ports
        values: In, {value s18: a with 11 fraction bits, operand s18}
        activated: Out, {sigma u16: 0..32768, silu s18 with 11 fraction bits, operand s18: that of the same element}

    `operand` is not used: it is what a caller will multiply with the result (the output gate's or the up row's raw sum),
    kept in step here so that nobody needs a FIFO.

    Rate: one element a cycle; all stages stop together while `activated` is valid and not ready.
    Latency: `LATENCY` cycles from a transfer on `values` to `valid` of `activated` when nothing stalls.
    Cost: one block RAM of 1024 x 16, one 18 x 17 multiplier, about 300 flip-flops. Tested for every index of the table,
    every rounding boundary and the extremes +/-131071. No errors. Source: docs/contract.md, "Activation".
    """

    LATENCY = 6

    def __init__(self) -> None:
        super().__init__(
            {
                "values": In(stream.Signature(Preactivation)),
                "activated": Out(stream.Signature(Activated)),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        m.submodules.table = table = Memory(shape=unsigned(16), depth=len(SIGMA), init=SIGMA.tolist())
        read = table.read_port()

        advance = Signal()
        valid = Signal(self.LATENCY)
        value = [Signal(signed(18), name=f"value{stage}") for stage in range(1, 5)]
        operand = [Signal(signed(18), name=f"operand{stage}") for stage in range(1, self.LATENCY + 1)]
        rounded = Signal(13)  # (|a| + 16) >> 5
        entry = Signal(16)
        sigma = [Signal(16, name=f"sigma{stage}") for stage in range(4, self.LATENCY + 1)]
        product = Signal(signed(34))
        silu = Signal(signed(18))

        given = self.values.payload
        negative = given.value[-1]
        folded = (given.value ^ negative.replicate(18))[:17]  # |a|, one less for a < 0
        m.d.comb += [
            advance.eq(~valid[-1] | self.activated.ready),
            self.values.ready.eq(advance),
            read.en.eq(advance),
            read.addr.eq(Mux(rounded[10:].any(), 1023, rounded[:10])),
            self.activated.valid.eq(valid[-1]),
            self.activated.payload.sigma.eq(sigma[-1]),
            self.activated.payload.silu.eq(silu),
            self.activated.payload.operand.eq(operand[-1]),
        ]
        with m.If(advance):
            m.d.sync += [
                valid.eq(Cat(self.values.valid, valid[:-1])),
                operand[0].eq(given.operand),
                value[0].eq(given.value),
                rounded.eq((folded + Cat(negative, Const(0, 3), Const(1, 1)))[5:]),  # + 16, or + 17 for a < 0
                # stage 2 is the read of the table
                entry.eq(read.data),
                sigma[0].eq(Mux(value[2] < 0, SIGMA_ONE - entry, entry)),
                product.eq(value[3] * sigma[0]),
                silu.eq(((product >> 14) + 1) >> 1),
            ]
            for chain in (value, operand, sigma):
                m.d.sync += [later.eq(earlier) for earlier, later in pairwise(chain)]
        return m
