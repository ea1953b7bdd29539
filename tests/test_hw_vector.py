"""The serial vector unit in a token loop without its link: every element of every unit against the golden model."""

from __future__ import annotations

from dataclasses import replace
from functools import cache

import numpy as np
import pytest
from amaranth.hdl import Cat, Module, signed
from amaranth.lib import fifo, stream, wiring
from amaranth.lib.wiring import In, Out
from small_board import with_epsilons

from tritape.base.errors import TritapeError
from tritape.hw.commands import VECTOR_COMMANDS
from tritape.hw.config import Config
from tritape.hw.engine.table_engine import TableEngine
from tritape.hw.memory.signature import Request
from tritape.hw.probe import PROBES
from tritape.hw.tape.reader import TapeReader, TokenRequest
from tritape.hw.tape.sequencer import REGISTERS, Sequencer
from tritape.hw.vector.ports import TAPS
from tritape.hw.vector.program import OPERATIONS, PROGRAMS, START, Use
from tritape.hw.vector.serial import SerialVector
from tritape.model import arith
from tritape.model.checkpoint import random_checkpoint
from tritape.model.config import ModelConfig
from tritape.model.formats import quantise_model
from tritape.model.golden import IntegerModel, Trace
from tritape.model.quantised import QuantisedModel
from tritape.model.tape.assembler import image
from tritape.model.tape.layout import Geometry
from tritape.model.tape.reader import read_header
from tritape.rtl_gen.estimate import token_cycles
from tritape.sim.bench import BenchResult, check_streams

ADDRESS_BITS = 14


class Loop(wiring.Component):
    """Reader, sequencer, engine and serial vector unit; what the units put out comes as streams."""

    def __init__(self, config: Config) -> None:
        self.config = config
        shapes = {name: signed(8 if name == "activation" else 18) for name in PROBES}
        super().__init__(
            {
                "boot": In(stream.Signature(1)),
                "feed": In(stream.Signature(TokenRequest)),
                "tokens": Out(stream.Signature(16)),
                "requests": Out(stream.Signature(Request)),
                "words": In(stream.Signature(8 * config.groups)),
                "host_logits": Out(stream.Signature(signed(18))),
                "logits_enable": In(1),
                **{name: Out(stream.Signature(shape)) for name, shape in shapes.items()},
            }
        )

    def elaborate(self, platform: object) -> Module:
        m, config = Module(), self.config
        m.submodules.reader = reader = TapeReader(config.groups, address_bits=ADDRESS_BITS)
        m.submodules.sequencer = sequencer = Sequencer(config, address_bits=ADDRESS_BITS)
        m.submodules.engine = engine = TableEngine(config)
        m.submodules.vector = vector = SerialVector(config)

        wiring.connect(m, wiring.flipped(self.boot), reader.boot)
        wiring.connect(m, wiring.flipped(self.feed), reader.tokens)
        wiring.connect(m, reader.requests, wiring.flipped(self.requests))
        wiring.connect(m, wiring.flipped(self.words), sequencer.words)
        for name in REGISTERS:
            if name != "vocabulary":
                m.d.comb += getattr(reader, name).eq(getattr(sequencer, name))
        m.d.comb += [
            reader.configured.eq(sequencer.configured),
            reader.finished.eq(sequencer.finished),
            sequencer.fresh.eq(reader.fresh),
            sequencer.norm_done.eq(vector.norm_done),
            vector.logits_enable.eq(self.logits_enable),
        ]
        wiring.connect(m, sequencer.engine_commands, engine.commands)
        wiring.connect(m, sequencer.weights, engine.weights)
        for name in (*VECTOR_COMMANDS, "embedding_words", "parameters"):
            wiring.connect(m, getattr(sequencer, name), getattr(vector, name))
        wiring.connect(m, vector.activations[0], engine.activations[0])
        wiring.connect(m, engine.rows, vector.rows)
        wiring.connect(m, vector.tokens, wiring.flipped(self.tokens))
        wiring.connect(m, vector.logits, wiring.flipped(self.host_logits))

        taps = {name: (getattr(vector, f"{name}_valid"), getattr(vector, name)) for name in TAPS}
        for name, port in (("activation", vector.activations[0]), ("row", engine.rows)):
            value = port.payload.value if name == "activation" else Cat(port.payload)
            taps[name] = port.valid & port.ready, value
        for name, (valid, value) in taps.items():
            m.submodules[f"{name}_queue"] = queue = fifo.SyncFIFOBuffered(width=len(value), depth=1024)
            port = getattr(self, name)
            m.d.comb += [
                queue.w_data.eq(value),
                queue.w_en.eq(valid),
                port.payload.eq(queue.r_data),
                port.valid.eq(queue.r_rdy),
                queue.r_en.eq(port.ready),
            ]
        return m


loop = cache(Loop)  # each once: elaborating it takes longer than some of the simulations


def model(vocab: int, hidden: int, layers: int, intermediate: int) -> QuantisedModel:
    shape = ModelConfig(vocab, hidden, layers, intermediate)
    return quantise_model(random_checkpoint(shape, seed=3), ids=list(range(min(24, vocab))))


def run(
    quantised: QuantisedModel, config: Config, fed: list[int], stall: float = 0.2, logits: bool = False
) -> BenchResult:
    golden, tokens = IntegerModel(quantised), []
    probes: dict[str, list[int]] = {name: [] for name in PROBES}
    for token in fed:
        trace = Trace()
        chosen, _ = arith.choose(golden.step(token, trace), 0, 1)
        tokens.append(chosen)
        for name in PROBES:
            probes[name] += trace.flat(name).tolist()
    data, groups = image(quantised, config.groups, config.max_rows), config.groups
    header = read_header(data, Geometry(groups))
    prologue = (header.prologue_address, header.prologue_words)
    requests = [(0, header.prologue_address), prologue]
    for token in fed:
        row = (header.embedding_address + token * header.row_words, header.row_words)
        requests += [row, (header.body_address, header.body_words), prologue]
    words = [
        int.from_bytes(data[(address + i) * groups :][:groups], "little")
        for address, length in requests
        for i in range(length)
    ]
    return check_streams(
        loop(config),
        simulator="verilator",
        inputs={
            "boot": [0],
            "feed": [{"token": token, "fresh": place == 0} for place, token in enumerate(fed)],
            "words": words,
        },
        expected={
            "tokens": tokens,
            "requests": [{"address": address, "length": length} for address, length in requests],
            "host_logits": probes["logit"] if logits else [],
            **probes,
        },
        statics={"logits_enable": int(logits)},
        after={"words": [(0, "requests", 1)]},
        seed=groups,
        input_stall=stall / 2,
        output_stall=stall,
    )


CONFIG = Config(
    groups=4, tables_per_filler=2, max_hidden=40, max_intermediate=66, max_layers=2, max_vocab=97, max_rows=64, serial=True
)  # fmt: skip


def test_two_layers_of_odd_lengths_in_several_blocks() -> None:
    """Hidden 39, intermediate 65, vocabulary 97 in blocks of 32 rows; three tokens, so the state is used."""
    run(model(97, 39, 2, 65), replace(CONFIG, max_rows=32), [0, 96, 5])


def test_the_host_takes_every_logit() -> None:
    run(model(97, 40, 1, 65), CONFIG, [7, 1], logits=True)


def test_epsilons_of_all_bits() -> None:
    run(with_epsilons(model(97, 40, 1, 65)), CONFIG, [7])


def test_state_and_candidate_as_far_apart_as_can_be() -> None:
    """The second token's candidates are below zero where the state is the largest: their difference takes 19 bits."""
    quantised = model(97, 40, 1, 65)
    (layer,) = quantised.layers
    steep = {name: replace(layer.projections[name], exponent=layer.projections[name].exponent + 5) for name in "if"}
    quantised = replace(quantised, layers=[replace(layer, projections=layer.projections | steep)])
    golden, trace = IntegerModel(quantised), Trace()
    golden.step(0)
    before = golden.state[0].copy()
    golden.step(62, trace)
    candidates = arith.silu(
        next(values for unit, name, values in trace.entries if (unit, name) == ("value", "layers.0.i"))
    )
    assert (before - candidates).max() >= 1 << 17
    run(quantised, CONFIG, [0, 62])


def test_of_equal_logits_the_first_wins() -> None:
    """Every row of the head is the same, so every logit is the largest."""
    quantised = model(97, 40, 1, 65)
    same = np.broadcast_to(quantised.head.weights[:1], quantised.head.weights.shape)
    run(replace(quantised, head=replace(quantised.head, weights=same.copy())), CONFIG, [7])


@pytest.mark.slow
@pytest.mark.parametrize(
    "groups", [5, pytest.param(8, marks=pytest.mark.long), pytest.param(16, marks=pytest.mark.long)]
)
def test_other_widths(groups: int) -> None:
    run(model(64, 40, 1, 65), replace(CONFIG, groups=groups, tables_per_filler=groups // 2), [3, 60])


@pytest.mark.long
def test_shortest_vectors() -> None:
    run(model(2, 1, 2, 1), replace(CONFIG, max_hidden=1, max_intermediate=1, max_vocab=2), [1, 0, 1])


@pytest.mark.parametrize("tables_per_filler", [1, pytest.param(4, marks=pytest.mark.long)])
def test_cycle_model(tables_per_filler: int) -> None:
    """The second of two tokens takes what `tritape estimate` says, within one percent."""
    quantised = model(97, 40, 1, 65)
    config = replace(CONFIG, tables_per_filler=tables_per_filler)
    first, second = run(quantised, config, [7, 1], stall=0).transfers["tokens"]
    assert token_cycles(quantised.config, config)[0] == pytest.approx(second - first, rel=0.01)


def test_programs_keep_the_rules_of_the_unit() -> None:
    """One address waits for a write, so writes are at least four operations apart; and all programs are in the table."""
    for name, steps in PROGRAMS.items():
        writes = [at for at, step in enumerate(steps) if step.get("use") == Use.WRITE]
        assert len(writes) <= 1, name
        assert not writes or len(steps) >= 4, name
        assert OPERATIONS[START[name] + len(steps) - 1]["last"], name


def test_refuses_a_strange_choice() -> None:
    with pytest.raises(TritapeError, match=r"^serial must be True or False, not 1; choose one$"):
        Config(serial=1)  # type: ignore[arg-type]
