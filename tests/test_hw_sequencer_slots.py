"""Sequencer of several slots: an embedding row a slot, each for its own token."""

from dataclasses import replace
from functools import cache
from typing import Any

import pytest
from amaranth.hdl import Array, Module
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import Out
from test_hw_sequencer import Tape, config

from tritape.hw.tape.sequencer import Sequencer
from tritape.sim.bench import check_streams

TOKENS = [0xA55B, 0x1234, 0x0F0F]


class Slots(wiring.Component):
    """The sequencer of three slots, whose tokens are `TOKENS`; every word of a row comes with its slot."""

    def __init__(self, groups: int) -> None:
        self.sequencer = Sequencer(replace(config(groups), batch=len(TOKENS)))
        members = self.sequencer.signature.members
        self.kept = [
            name
            for name in members
            if name not in ("token", "fresh", "norm_done", "tick", "paused", "embedding_words", "slot", "finished")
        ]
        rows = stream.Signature(data.StructLayout({"word": 8 * groups, "slot": 2}))
        super().__init__({**{name: members[name] for name in self.kept}, "rows": Out(rows), "tokens_finished": Out(8)})

    def elaborate(self, platform: object) -> Module:
        m = Module()
        m.submodules.sequencer = inner = self.sequencer
        for name in self.kept:
            if not self.sequencer.signature.members[name].is_port:
                wiring.connect(m, wiring.flipped(getattr(self, name)), getattr(inner, name))
            else:
                m.d.comb += getattr(self, name).eq(getattr(inner, name))
        m.d.comb += [
            inner.token.eq(Array(TOKENS)[inner.slot]),
            self.rows.valid.eq(inner.embedding_words.valid),
            self.rows.payload.word.eq(inner.embedding_words.payload),
            self.rows.payload.slot.eq(inner.slot),
            inner.embedding_words.ready.eq(self.rows.ready),
        ]
        with m.If(inner.finished):
            m.d.sync += self.tokens_finished.eq(self.tokens_finished + 1)
        return m


slots = cache(Slots)  # each once: elaborating it takes longer than the simulation


def run(groups: int, tokens: list[int]) -> None:
    """Two steps; the rows are those of `tokens`."""
    tape = Tape(groups)
    tape.boot()
    rows: list[dict[str, int]] = []
    for _ in range(2):
        multiplier = tape.rng.getrandbits(16)
        tape.section(4, length=100, mantissa=multiplier)
        tape.expected["embedding_commands"].append({"length": 100, "multiplier": multiplier})
        for slot, token in enumerate(tokens):
            before = len(tape.words)
            tape.put(tape.rng.randbytes(100), token=token)
            rows += [{"word": word, "slot": slot} for word in tape.words[before:-1]]
        tape.section(6)
    expected: dict[str, Any] = {**tape.expected, "rows": rows}
    del expected["embedding_words"]
    wrong = 2 * sum(a != b for a, b in zip(tokens, TOKENS))
    check_streams(
        slots(groups),
        inputs={"words": tape.words},
        expected=expected,
        finals={
            "configured": 1,
            "fault": 0,
            "tokens_finished": 2,
            "crc_errors": wrong,
            "first_bad_valid": int(wrong > 0),
        },
        simulator="icarus",
    )


@pytest.mark.parametrize("groups", [4, 16])
def test_a_row_a_slot(groups: int) -> None:
    run(groups, TOKENS)


@pytest.mark.parametrize("slot", [0, 1, 2])
def test_a_row_of_another_token_is_told_in_every_slot(slot: int) -> None:
    run(4, [token ^ (at == slot) << 3 for at, token in enumerate(TOKENS)])
