"""Logits to scores whose argmax is a greedy choice or a sample (Gumbel-max)."""

from __future__ import annotations

from itertools import pairwise

from amaranth import Array, Cat, Const, Module, Mux, Signal, signed
from amaranth.lib import stream, wiring
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import In, Out

from tritape.hw.assertion import check
from tritape.model.arith import GUMBEL, GUMBEL_STEP, XORSHIFT_DEFAULT


class Sampler(wiring.Component):
    """Gives every logit a score, so that the `Argmax` behind it makes a greedy choice or draws a sample: the logit itself
    (greedy), or the logit over the temperature plus Gumbel noise. `Head` has one.

        inv_temperature = 0:  score = y
        else, per logit:      s ^= s << 13; s ^= s >> 17; s ^= s << 5  (32 bits)
                              z = leading zeros of s;  m = the 7 bits after the leading one, zeros shifted in
                              noise = GUMBEL[min(z, 7) * 128 + m] + 1420 * max(z - 7, 0)
                              score = round_shift(y * inv_temperature, 12) + noise

    Ports
        logits: In, s18
        scores: Out, s32
        inv_temperature: In, u17. It must not change while elements are inside
        seed: In, u32; reseed: In, u1: in the cycle that it is high the generator takes `seed` (0: XORSHIFT_DEFAULT),
            whatever else it would do. The generator starts from XORSHIFT_DEFAULT and goes on over tokens
        state: Out, u32: the generator, as of the last logit that was taken

    Greedy does not step the generator.

    Rate: one element a cycle; all stages stop together while `scores` is valid and not ready.
    Latency: `LATENCY` cycles from a transfer on `logits` to `valid` of `scores` when nothing stalls.
    Cost: one block RAM of 1024 x 15, one 18 x 18 multiplier, about 370 flip-flops. Tested greedy and at several
    temperatures, with states of 0 to 31 leading zeros. No errors. Source: docs/contract.md, "Head".
    """

    LATENCY = 8

    def __init__(self) -> None:
        super().__init__(
            {
                "logits": In(stream.Signature(signed(18))),
                "scores": Out(stream.Signature(signed(32))),
                "inv_temperature": In(17),
                "seed": In(32),
                "reseed": In(1),
                "state": Out(32, init=XORSHIFT_DEFAULT),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        m.submodules.table = table = Memory(shape=signed(16), depth=len(GUMBEL), init=GUMBEL.tolist())
        read = table.read_port()

        advance = Signal()
        valid = Signal(self.LATENCY)
        greedy = Signal()
        factor = Signal(17)
        m.d.sync += [
            greedy.eq(self.inv_temperature == 0),
            factor.eq(Mux(self.inv_temperature == 0, 1 << 12, self.inv_temperature)),  # round_shift(y << 12, 12) = y
        ]

        with m.If(valid.any()):
            same = (greedy == (self.inv_temperature == 0)) & (greedy | (factor == self.inv_temperature))
            check(m, platform, same, "inv_temperature must not change while elements are inside")

        step = self.state
        step = step ^ (step << 13)[:32]
        step = step ^ (step >> 17)
        step = step ^ (step << 5)[:32]
        with m.If(self.logits.valid & advance & (self.inv_temperature != 0)):
            m.d.sync += self.state.eq(step)
        with m.If(self.reseed):
            m.d.sync += self.state.eq(Mux(self.seed == 0, XORSHIFT_DEFAULT, self.seed))

        def normalise(bits: Signal, shifts: tuple[int, ...]) -> tuple[Signal, list[Signal]]:
            """Shift left by each of `shifts` that finds only zeros; the decisions are bits of z, high first."""
            decisions = []
            for shift in shifts:
                zeros = ~bits[32 - shift :].any()
                bits = Mux(zeros, (bits << shift)[:32], bits)
                decisions.append(zeros)
            return bits, decisions

        random1 = Signal(32)  # the state that belongs to this logit, for the state itself may be reseeded
        shifted2, shifted3 = Signal(32), Signal(32)
        z2, z3 = Signal(1), Signal(3)
        z4, m4 = Signal(5), Signal(7)
        entry = Signal(signed(16))
        steps, steps6 = Signal(16), Signal(16)
        noise = Signal(signed(18))
        logit = [Signal(signed(18), name=f"logit{stage}") for stage in range(1, 6)]
        product = Signal(signed(36))
        scaled = Signal(signed(24))
        score = Signal(signed(25))

        by_16, by_8_4, by_2_1 = (16,), (8, 4), (2, 1)
        first, first_z = normalise(random1, by_16)
        second, second_z = normalise(shifted2, by_8_4)
        third, third_z = normalise(shifted3, by_2_1)
        table_z = Mux(z4[3:].any(), 7, z4[:3])
        multiples = Array(Const(GUMBEL_STEP * max(z - 7, 0), 16) for z in range(32))
        m.d.comb += [
            advance.eq(~valid[-1] | self.scores.ready),
            self.logits.ready.eq(advance),
            read.en.eq(advance),
            read.addr.eq(Cat(m4, table_z)),
            self.scores.valid.eq(valid[-1]),
            self.scores.payload.eq(score),
        ]
        with m.If(advance):
            m.d.sync += [
                valid.eq(Cat(self.logits.valid, valid[:-1])),
                random1.eq(step),
                Cat(shifted2, z2).eq(Cat(first, *first_z)),
                Cat(shifted3, z3).eq(Cat(second, *reversed(second_z), z2)),
                Cat(m4, z4).eq(Cat(third[24:31], *reversed(third_z), z3)),
                steps.eq(multiples[z4]),  # stage 5 is also the read of the table
                entry.eq(read.data),
                steps6.eq(steps),
                noise.eq(Mux(greedy, 0, entry + steps6)),
                logit[0].eq(self.logits.payload),
                product.eq(logit[4] * factor),
                scaled.eq(((product >> 11) + 1) >> 1),
                score.eq(scaled + noise),
            ]
            m.d.sync += [later.eq(earlier) for earlier, later in pairwise(logit)]
        return m
