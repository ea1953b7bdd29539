"""AutoBoot with a loop that adds; a board with its tape in flash, from power-up to text; what goes into the flash."""

from __future__ import annotations

import dataclasses
import os
import select
import time

import pytest
from amaranth.hdl import Module, Signal
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out

from tritape.base.errors import TritapeError
from tritape.host.flash import MAX_PROMPT, require_flash, script
from tritape.hw.config import Config
from tritape.hw.link.autoboot import AutoBoot, script_words
from tritape.hw.memory.onchip import OnChipMemory
from tritape.model.checkpoint import load_checkpoint, random_checkpoint
from tritape.model.config import ModelConfig
from tritape.model.data import embedded_models
from tritape.model.formats import quantise_model
from tritape.model.golden import golden_tokens
from tritape.model.pieces import join_pieces, token_pieces
from tritape.model.tape.assembler import image
from tritape.model.tokenizer import load_tokenizer
from tritape.rtl_gen.boards import board
from tritape.sim.bench import check_streams
from tritape.sim.netlist.verify import verify
from tritape.sim.virtual_board import VirtualBoard

FLASH_BOARD = board("icebreaker-flash")
PIECES = [b"", b"a", b"b\0c", "é".encode(), b"x" * 31, b"yz", b"\xff", *(b"%d," % token for token in range(7, 24))]


def config(groups: int, **other: object) -> Config:
    return dataclasses.replace(Config(groups=groups, max_vocab=24, serial=True), **other)


class Adds(wiring.Component):
    """In the place of a `TokenLoop`: boots with one word, then each token asks for three words and its answer is the sum of the
    token and the third word. `again` begins three texts at most. `broken`: the token in whose pass something is damaged."""

    def __init__(self, made: Config, data: bytes, broken: int = -1) -> None:
        self._auto, self._broken = AutoBoot(made), broken
        size = made.word_bytes
        body = b"".join(word.to_bytes(4, "little").ljust(size, b"\0") for word in (3, 9, 9, 2))
        self._memory = OnChipMemory(size, script_words(made) + 4, data + body)
        super().__init__(
            {"again": In(1), "text": Out(stream.Signature(8)), "failed": Out(1), "feeds": Out(16), "fresh": Out(16)}
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        m.submodules.auto, m.submodules.memory = auto, memory = self._auto, self._memory
        wiring.connect(m, auto.requests, memory.requests)
        wiring.connect(m, memory.words, auto.words)
        wiring.connect(m, auto.text, wiring.flipped(self.text))
        token, asked, total, step = Signal(16), Signal(3), Signal(16), Signal(3)
        m.d.comb += [auto.start.eq(1), auto.again.eq(self.again & (self.fresh < 3)), self.failed.eq(auto.failed)]
        m.d.comb += [auto.given.ready.eq(1), auto.asked.payload.length.eq(1), auto.results.payload.eq(total)]
        m.d.comb += auto.asked.payload.address.eq(asked)
        with m.If(auto.asked.valid & auto.asked.ready):
            m.d.sync += asked.eq(asked + 1)
        with m.If(auto.given.valid):
            m.d.sync += [step.eq(step + 1), total.eq(token + auto.given.payload)]
        with m.FSM():
            with m.State("OFF"):
                m.d.comb += auto.boot.ready.eq(1)
                with m.If(auto.boot.valid):
                    m.next = "HEADER"
            with m.State("HEADER"):
                m.d.comb += auto.asked.valid.eq(asked == 0)
                with m.If(step == 1):
                    m.d.sync += [step.eq(0), auto.configured.eq(total == 3), auto.fault.eq(total != 3)]
                    m.next = "PROLOGUE"
            with m.State("PROLOGUE"):
                m.d.comb += [auto.asked.valid.eq(asked == 1), auto.tokens.ready.eq(asked == 2)]
                with m.If(auto.tokens.valid & auto.tokens.ready):
                    m.d.sync += [token.eq(auto.tokens.payload.token), self.feeds.eq(self.feeds + 1)]
                    m.d.sync += [auto.passing.eq(1), self.fresh.eq(self.fresh + auto.tokens.payload.fresh)]
                    m.next = "BODY"
            with m.State("BODY"):
                m.d.comb += [auto.asked.valid.eq((asked == 2) | (asked == 3)), auto.results.valid.eq(step == 3)]
                with m.If(auto.results.valid & auto.results.ready):
                    m.next = "END"
            with m.State("END"):
                m.d.sync += [auto.passing.eq(0), asked.eq(1), step.eq(0), auto.damaged.eq(token == self._broken)]
                m.next = "PROLOGUE"
        return m


def bytes_of(*ids: int) -> list[int]:
    return list(join_pieces(PIECES, ids))


@pytest.mark.parametrize(("groups", "simulator"), [(4, "icarus"), (13, "verilator")])
def test_prompt_and_tokens_become_text(groups, simulator):
    """Every text, empty ones and those with zeros included; what answers the prompt's first tokens is dropped."""
    made = config(groups)
    check_streams(
        Adds(made, script(made, PIECES, [4, 1, 3], 6)),
        inputs={},
        expected={"text": bytes_of(4, 1, 3, 5, 7, 9, 11, 13, 15)},
        finals={"failed": 0, "feeds": 8, "fresh": 1},
        simulator=simulator,
    )


def test_a_text_ends_with_its_token():
    made = config(4)
    check_streams(
        Adds(made, script(made, PIECES, [1], 65536, end=7)),
        inputs={},
        expected={"text": bytes_of(1, 3, 5, 7)},
        finals={"failed": 0, "feeds": 3},
        simulator="icarus",
    )


def test_a_byte_begins_the_text_anew():
    made = config(4)
    once = bytes_of(1, 3, 5)
    check_streams(
        Adds(made, script(made, PIECES, [1], 2)),
        inputs={},
        expected={"text": once * 3},
        statics={"again": 1},
        finals={"failed": 0, "fresh": 3},
        simulator="icarus",
    )


def test_no_text_of_a_pass_that_was_damaged():
    made = config(4)
    check_streams(
        Adds(made, script(made, PIECES, [1], 20), broken=5),
        inputs={},
        expected={"text": bytes_of(1, 3, 5)},
        finals={"failed": 1, "feeds": 3},
        simulator="icarus",
    )


@pytest.mark.parametrize("data", [b"\xff", b"\0"], ids=["erased", "zeros"])
def test_without_a_script_nothing_is_written(data):
    made = config(4)
    check_streams(
        Adds(made, data * script_words(made) * 4),
        inputs={},
        expected={"text": []},
        finals={"failed": 1, "feeds": 0},
        simulator="icarus",
    )


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"prompt": []}, f"prompt must have 1 to {MAX_PROMPT} tokens, not 0"),
        ({"prompt": [1] * 253}, f"prompt must have 1 to {MAX_PROMPT} tokens, not 253"),
        ({"tokens": 0}, "tokens must be from 1 to 65536, not 0"),
        ({"pieces": [b""] * 25}, "vocabulary must be at most 24, not 25"),
        ({"pieces": [b"", b"x" * 32]}, "text of a token must have at most 31 bytes, not the 32 of token 1"),
        ({"inverse": 5}, "temperature must be 0 on a board with a serial configuration"),
        ({"seed": 1 << 32}, "seed must be from 0 to 4294967295"),
    ],
)
def test_what_no_script_can_say_is_refused(change, message):
    with pytest.raises(TritapeError, match=message):
        script(config(4), **{"pieces": PIECES, "prompt": [1], "tokens": 1, **change})


def test_boards_without_flash_are_refused():
    with pytest.raises(TritapeError, match=r"board must have its tape in flash \(icebreaker-flash\), not 'icebreaker'"):
        require_flash(board("icebreaker"))
    with pytest.raises(
        TritapeError, match=r"icebreaker-flash: image of the flash must be one, as `tritape flash` makes it"
    ):
        VirtualBoard(FLASH_BOARD)


def test_netlists_of_boards_with_flash_are_refused_by_name():
    with pytest.raises(
        TritapeError, match="memory must be SDR or inside the device, not flash, which has no model at the pins"
    ):
        verify(FLASH_BOARD, None, "none")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            {"make_memory": OnChipMemory},
            "icebreaker-flash: make_memory and dram must be None beside flash; take them away",
        ),
        (
            {"config": Config(groups=4, batch=2)},
            "icebreaker-flash: batch must be 1 without a host, not 2; lower it",
        ),
    ],
)
def test_boards_that_cannot_run_by_themselves(change, message):
    with pytest.raises(TritapeError, match=message):
        dataclasses.replace(FLASH_BOARD, **change)


def read_text(port: str, size: int, patience_s: float = 120.0) -> bytes:
    """The first bytes that come out of a terminal."""
    terminal, got, end = os.open(port, os.O_RDWR | os.O_NOCTTY), b"", time.monotonic() + patience_s
    try:
        while len(got) < size and time.monotonic() < end:
            if select.select([terminal], [], [], 1.0)[0]:
                got += os.read(terminal, 4096)
    finally:
        os.close(terminal)
    return got


def text_from_power_up(image_bytes: bytes, wanted: bytes, patience_s: float = 120.0) -> None:
    """The board writes `wanted`, and did to its flash nothing that a part would not forgive."""
    with VirtualBoard(FLASH_BOARD, flash=image_bytes) as virtual:
        assert read_text(virtual.port, len(wanted), patience_s) == wanted
        process = virtual._process
    assert process.returncode == 0, "violations at the flash"


@pytest.mark.slow
def test_power_up_to_text_without_a_host():
    """The iCEBreaker's own configuration; a model of random weights, so few that the text comes in a moment."""
    shape = ModelConfig(vocab_size=256, hidden_size=20, num_hidden_layers=2, intermediate_size=24)
    model = quantise_model(random_checkpoint(shape, seed=3), ids=list(range(8)))
    prompt, made = list(b"Once"), FLASH_BOARD.config
    wanted = prompt + golden_tokens(model, prompt, 12)
    data = script(made, [bytes([token]) for token in range(256)], prompt, 12)
    text_from_power_up(data + image(model, made.groups, made.max_rows), bytes(wanted))


@pytest.mark.long
def test_power_up_to_words_without_a_host():
    """The embedded model that is meant for the board."""
    checkpoint = load_checkpoint(embedded_models()[FLASH_BOARD.model])
    model, codec, made = quantise_model(checkpoint), load_tokenizer(checkpoint), FLASH_BOARD.config
    pieces, prompt = token_pieces(codec, checkpoint.config.vocab_size), list(codec.encode("It is a truth"))
    ids = prompt + golden_tokens(model, prompt, 24)
    wanted = join_pieces(pieces, ids)
    assert wanted.decode() == codec.decode(ids)
    text_from_power_up(script(made, pieces, prompt, 24) + image(model, made.groups, made.max_rows), wanted, 600.0)
