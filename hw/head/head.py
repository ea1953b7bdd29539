"""The end of the model: logits in, a token out."""

from __future__ import annotations

from amaranth import Module, Signal, signed, unsigned
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out

from tritape.base.errors import TritapeError
from tritape.hw.assertion import check
from tritape.hw.commands import HeadCommand
from tritape.hw.head.argmax import Argmax
from tritape.hw.head.sampler import Sampler
from tritape.hw.stream.forward import forward
from tritape.model.arith import XORSHIFT_DEFAULT


class Head(wiring.Component):
    """Chooses the next token from the logits, greedily or by sampling. A `PipelinedVector` has one behind its lanes. For every
    command it gives one token: the index of the best of the next `rows` logits (`Sampler`, then `Argmax`).

    Parameters
        max_vocab: largest vocabulary, 1..65536

    Ports
        commands: In, `HeadCommand`: `rows` must be at most max_vocab; rows = 0 does nothing and gives no token
        values: In, s18: logits
        tokens: Out, u16
        inv_temperature: In, u17 (0: greedy). It must not change between a command and its token
        seed: In, u32; reseed: In, u1; state: Out, u32: the sampler's generator, see `Sampler`
        logit_valid: Out, u1; logit: Out, s18: a copy of every logit, one cycle after it was taken; it cannot stall

    Rate: one logit a cycle. `values` is not ready without a command, and the next command is taken only after the scores of
    the one before have all been compared.
    Latency: the token is valid `LATENCY` cycles after the transfer of the last logit.
    Cost: `Sampler` and `Argmax` and about 50 flip-flops. Tested with vocabularies of 1 to 97, greedy and sampling.
    Raises `TritapeError` for max_vocab out of range. Source: docs/contract.md, "Head".
    """

    LATENCY = Sampler.LATENCY + Argmax.LATENCY

    def __init__(self, max_vocab: int) -> None:
        if not 1 <= max_vocab <= 65536:
            raise TritapeError(f"max_vocab must be 1..65536, not {max_vocab!r}; a token has 16 bits")
        self.max_vocab = max_vocab
        super().__init__(
            {
                "commands": In(stream.Signature(HeadCommand)),
                "values": In(stream.Signature(signed(18))),
                "tokens": Out(stream.Signature(unsigned(16))),
                "inv_temperature": In(17),
                "seed": In(32),
                "reseed": In(1),
                "state": Out(32, init=XORSHIFT_DEFAULT),
                "logit_valid": Out(1),
                "logit": Out(signed(18)),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        m.submodules.sampler = sampler = Sampler()
        m.submodules.argmax = argmax = Argmax(self.max_vocab)
        forward(m, self, sampler, ("inv_temperature", "seed", "reseed", "state"))
        with m.If(self.commands.valid):
            check(m, platform, self.commands.payload.rows <= self.max_vocab, "`rows` must be at most max_vocab")
        to_take = Signal(17)  # logits of this command that have not come yet
        to_score = Signal(17)  # ... that the argmax has not seen yet
        last = Signal()

        taking = Signal()  # to_take is not 0: a register, because every unit in front waits for it
        m.d.comb += [
            self.commands.ready.eq(~to_score.any()),
            self.values.ready.eq(sampler.logits.ready & taking),
            sampler.logits.valid.eq(self.values.valid & taking),
            sampler.logits.payload.eq(self.values.payload),
            argmax.scores.valid.eq(sampler.scores.valid),
            sampler.scores.ready.eq(argmax.scores.ready),
            argmax.scores.payload.score.eq(sampler.scores.payload),
            argmax.scores.payload.last.eq(last),
            self.tokens.valid.eq(argmax.winner.valid),
            argmax.winner.ready.eq(self.tokens.ready),
            self.tokens.payload.eq(argmax.winner.payload.index),
        ]
        m.d.sync += self.logit_valid.eq(0)
        with m.If(self.values.valid & self.values.ready):
            m.d.sync += [to_take.eq(to_take - 1), taking.eq(to_take != 1)]
            m.d.sync += [self.logit_valid.eq(1), self.logit.eq(self.values.payload)]
        with m.If(argmax.scores.valid & argmax.scores.ready):
            m.d.sync += [to_score.eq(to_score - 1), last.eq(to_score == 2)]
        with m.If(self.commands.valid & self.commands.ready):
            rows = self.commands.payload.rows
            m.d.sync += [to_take.eq(rows), to_score.eq(rows), last.eq(rows == 1)]
            m.d.sync += taking.eq(rows.any())
        return m
