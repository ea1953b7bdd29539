"""Index of the largest score of a vector."""

from __future__ import annotations

from amaranth import Module, Signal, signed, unsigned
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from tritape.base.errors import TritapeError
from tritape.hw.assertion import check

Score = data.StructLayout({"score": signed(32), "last": 1})


class Argmax(wiring.Component):
    """Finds the token: index and value of the largest of the scores up to `last`, for `Head`. The lowest index wins a tie.

    Parameters
        max_rows: longest vector, 1..65536; indices have the bits for max_rows - 1 (at least one)

    Ports
        scores: In, {score s32, last u1: marks the last score of a vector}. A vector must not be longer than max_rows
        winner: Out, {index, score s32}

    Rate: one score a cycle. Until `winner` is taken `scores` is not ready, so vectors are at least one cycle apart.
    Latency: `winner` is valid `LATENCY` cycles after the transfer of the last score.
    Cost: one 32-bit comparator, about 70 flip-flops. Tested with ties, extremes, vectors of 1 to 97 scores.
    Raises `TritapeError` for max_rows out of range. Source: docs/contract.md, "Head".
    """

    LATENCY = 1

    def __init__(self, max_rows: int) -> None:
        if not 1 <= max_rows <= 65536:
            raise TritapeError(f"max_rows must be 1..65536, not {max_rows!r}; an index has 16 bits")
        self.max_rows = max_rows
        self.index_bits = max(1, (max_rows - 1).bit_length())
        winner = data.StructLayout({"index": unsigned(self.index_bits), "score": signed(32)})
        super().__init__({"scores": In(stream.Signature(Score)), "winner": Out(stream.Signature(winner))})

    def elaborate(self, platform: object) -> Module:
        m = Module()
        first = Signal(init=1)
        index = Signal(self.index_bits)
        done = Signal()
        best = Signal.like(self.winner.payload)

        m.d.comb += [
            self.scores.ready.eq(~done),
            self.winner.valid.eq(done),
            self.winner.payload.eq(best),
        ]
        given = self.scores.payload
        with m.If(self.scores.valid & ~done):
            with m.If(first | (given.score > best.score)):
                m.d.sync += [best.score.eq(given.score), best.index.eq(index)]
            with m.If(~given.last):
                check(m, platform, index < self.max_rows - 1, "a vector must not be longer than max_rows")
            m.d.sync += [first.eq(given.last), done.eq(given.last), index.eq(index + 1)]
            with m.If(given.last):
                m.d.sync += index.eq(0)
        with m.If(done & self.winner.ready):
            m.d.sync += done.eq(0)
        return m
