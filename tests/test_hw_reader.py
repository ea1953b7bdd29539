"""TapeReader: the requests of some tokens, in order, and what it waits for."""

from __future__ import annotations

import random

import pytest
from amaranth.hdl import Module, Signal
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from tritape.base.errors import TritapeError
from tritape.hw.tape.reader import TapeReader, TokenRequest
from tritape.sim.bench import SIMULATORS, BenchResult, check_streams

CONFIGURATION = ("prologue_address", "prologue_words", "body_address", "body_words", "embedding_address", "row_words")


class Harness(wiring.Component):
    """`configured` and `finished` as streams; `fresh` beside each request."""

    def __init__(self, groups: int) -> None:
        self.reader = TapeReader(groups)
        seen = data.StructLayout({"address": 32, "length": 32, "fresh": 1})
        super().__init__(
            {
                **{name: In(32) for name in CONFIGURATION},
                **{name: In(stream.Signature(1)) for name in ("boot", "configure", "finish")},
                "tokens": In(stream.Signature(TokenRequest)),
                "requests": Out(stream.Signature(seen)),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        m.submodules.reader = reader = self.reader
        wiring.connect(m, wiring.flipped(self.boot), reader.boot)
        wiring.connect(m, wiring.flipped(self.tokens), reader.tokens)
        configured = Signal()
        with m.If(self.configure.valid):
            m.d.sync += configured.eq(1)
        m.d.comb += [getattr(reader, name).eq(getattr(self, name)) for name in CONFIGURATION]
        m.d.comb += [
            self.configure.ready.eq(1),
            self.finish.ready.eq(1),
            reader.configured.eq(configured),
            reader.finished.eq(self.finish.valid),
            self.requests.valid.eq(reader.requests.valid),
            self.requests.payload.address.eq(reader.requests.payload.address),
            self.requests.payload.length.eq(reader.requests.payload.length),
            self.requests.payload.fresh.eq(reader.fresh),
            reader.requests.ready.eq(self.requests.ready),
        ]
        return m


def run(groups: int, simulator: str, stall: float = 0.3) -> BenchResult:
    rng = random.Random(groups)
    values = {name: rng.getrandbits(31) for name in CONFIGURATION}
    values["row_words"] = 65535 if groups == 4 else rng.randint(2, 500)
    tokens = [{"token": rng.getrandbits(16), "fresh": int(n in (0, 3))} for n in range(6)]
    tokens[1]["token"] = 65535
    header_words = -(-32 // groups) + -(-64 // groups) + 1
    prologue = (values["prologue_address"], values["prologue_words"])
    expected = [(0, header_words, 0), (*prologue, 0)]
    for token in tokens:
        row = (values["embedding_address"] + token["token"] * values["row_words"]) & 0xFFFFFFFF
        body = (values["body_address"], values["body_words"])
        expected += [(*part, token["fresh"]) for part in ((row, values["row_words"]), body, prologue)]
    return check_streams(
        Harness(groups),
        inputs={"boot": [1], "configure": [1], "finish": [0] * 6, "tokens": tokens},
        expected={"requests": [dict(zip(("address", "length", "fresh"), item)) for item in expected]},
        statics=values,
        after={"configure": [(0, "requests", 1)], "finish": [(n, "requests", 5 + 3 * n) for n in range(6)]},
        input_stall=stall,
        output_stall=stall,
        simulator=simulator,
    )


@pytest.mark.parametrize("simulator", SIMULATORS)
@pytest.mark.parametrize("groups", [4, 13, 16])
def test_requests_in_order(groups: int, simulator: str) -> None:
    cycles = run(groups, simulator).transfers
    assert cycles["requests"][1] > cycles["configure"][0]
    assert all(token > finish for token, finish in zip(cycles["tokens"][1:], cycles["finish"]))


def test_latency() -> None:
    cycles = run(16, "icarus", stall=0).transfers
    assert cycles["requests"][2] - cycles["tokens"][0] == TapeReader.LATENCY


def test_errors() -> None:
    with pytest.raises(TritapeError, match=r"^groups must be at least 4, not 3$"):
        TapeReader(3)
