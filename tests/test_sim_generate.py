"""Whole tokens in the fast simulation: text, differences, damage, limits, and the cycle model against the RTL."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from tritape.base.errors import TritapeError
from tritape.host.device import Device
from tritape.hw.config import Config
from tritape.model.checkpoint import load_checkpoint, random_checkpoint
from tritape.model.config import ModelConfig
from tritape.model.data import default_model_path
from tritape.model.formats import quantise_model
from tritape.model.golden import IntegerModel
from tritape.model.quantised import QuantisedModel
from tritape.model.tape.assembler import image
from tritape.model.tape.layout import Geometry, Opcode
from tritape.model.tape.reader import sections
from tritape.rtl_gen.estimate import token_cycles
from tritape.sim.generate import RETRY_S, Generator, Simulation, generate

pytestmark = pytest.mark.slow
CONFIG = Config()
REFERENCE = Path(__file__).parent / "data" / "mmfreelm-tiny"


def random_model(hidden: int, intermediate: int, layers: int, vocab: int) -> QuantisedModel:
    shape = ModelConfig(vocab_size=vocab, hidden_size=hidden, num_hidden_layers=layers, intermediate_size=intermediate)
    return quantise_model(random_checkpoint(shape, seed=1), ids=[i % vocab for i in range(8)])


@pytest.fixture(scope="module")
def default_model() -> QuantisedModel:
    return quantise_model(load_checkpoint(default_model_path()))


def test_default_model_64_tokens(default_model: QuantisedModel):
    """Every logit of 64 tokens equals the golden model, sampled at temperature 0.7; nothing is damaged."""
    with Simulation(CONFIG) as simulation:
        generator = Generator(simulation, default_model, 16, max_rows=1024, temperature=0.7, seed=5)
        result = generate(generator, [40, 500, 3], 62, lambda token: None)
    assert result["bit_exact"], result["difference"]
    assert result["crc_errors"] == 0
    assert len(result["generated_ids"]) == 62
    assert result["roofline_fraction"] > 0.5


def test_reference_through_the_command(tmp_path):
    """`tritape check --rtl` on the authors' checkpoint: 64 tokens of RTL, and the bars of float and integer model."""
    from tritape.cli import app, register

    register()
    out = tmp_path / "check.json"
    arguments = [
        "check",
        str(REFERENCE),
        "--against",
        str(REFERENCE / "expected.npz"),
        "--rtl",
        "--tokens",
        "16",
        "--json",
        str(out),
    ]
    result = CliRunner().invoke(app, arguments)
    assert result.exit_code == 0, result.output
    measured = json.loads(out.read_text())
    assert measured["rtl_bit_exact"] is True
    assert measured["rtl_tokens"] == 64
    assert measured["float_max_rel"] <= 1e-5
    assert measured["int_rel_rms"] <= 0.03


def test_a_wrong_row_of_weights_is_located(default_model: QuantisedModel):
    """Hardware that runs other weights than the golden model stops with the first differing unit and element."""
    weights = default_model.layers[1].projections["f"].weights.copy()
    weights[17] = -weights[17]  # the whole row: one weight may meet an activation of zero
    layers = list(default_model.layers)
    projections = layers[1].projections | {"f": dataclasses.replace(layers[1].projections["f"], weights=weights)}
    layers[1] = dataclasses.replace(layers[1], projections=projections)
    with Simulation(CONFIG) as simulation:
        generator = Generator(simulation, default_model, 16, max_rows=1024)
        simulation.set_memory(image(dataclasses.replace(default_model, layers=layers), 16, 1024), 16)
        generator.device.boot()
        result = generator.feed(40)
    assert result.difference is not None
    assert result.difference.startswith("row layers.1.f[17] must be ")


def test_the_check_runs_while_the_hardware_goes_on():
    """The hardware is a token ahead, but never behind an end token; a difference is located in the token where it arose."""
    model = random_model(40, 65, 1, 97)
    with Simulation(CONFIG) as simulation:
        generator = Generator(simulation, model, 16, max_rows=1024, temperature=2.0, seed=3)
        whole = generate(generator, [3, 7], 6, lambda token: None)
        assert (whole["bit_exact"], whole["finish_reason"], generator.ran) == (True, "length", 7)
        ids = whole["generated_ids"]
        end = next(place for place, token in enumerate(ids) if place and token not in ids[:place])
        generator.restart(3)
        part = generate(generator, [3, 7], 6, lambda token: None, ends={ids[end]})
        assert (part["generated_ids"], part["finish_reason"]) == (ids[: end + 1], "stop")
        assert generator.ran == 7 + 2 + end
        assert part["cycles_per_token"] == pytest.approx(whole["cycles_per_token"], rel=0.01)

        embedding = model.embedding.copy()
        embedding[7] = -embedding[7]
        simulation.set_memory(image(dataclasses.replace(model, embedding=embedding), 16, 1024), 16)
        generator.device.boot()
        generator.restart(3)
        before = generator.ran
        wrong = generate(generator, [3, 7, 3], 6, lambda token: None)
        assert generator.ran == before + 3
    assert wrong["bit_exact"] is False
    assert wrong["difference"].startswith("token 2 of the sequence (id 7): ")
    assert wrong["cycles_per_token"] == pytest.approx(whole["cycles_per_token"], rel=0.01)


def test_damage_is_counted_and_limits_are_refused():
    """A flipped weight bit stops the token, by its section; a flipped header bit, or a model too large, is refused at boot."""
    model = random_model(40, 65, 1, 97)
    data = bytearray(image(model, 16, 1024))
    section, address, _ = next(s for s in sections(bytes(data), Geometry(16)) if s[0].opcode == Opcode.MATVEC)
    with Simulation(CONFIG) as simulation:
        device = Device(simulation, retry_s=RETRY_S)
        data[(address + 3) * 16 + 1] ^= 1
        simulation.set_memory(bytes(data), 16)
        device.boot()
        with pytest.raises(
            TritapeError, match=rf"^section {section.index} \(MATVEC layers\.0\.i\) of the tape: CRC-32 must be right"
        ):
            device.feed([3])
        counters = device.counters()
        assert (counters["crc_errors"], counters["first_bad_section"]) == (1, section.index)
        with pytest.raises(TritapeError, match="token must be within the tape's vocabulary"):
            device.feed([97])
        data[40] ^= 1
        simulation.set_memory(bytes(data), 16)
        with pytest.raises(TritapeError, match=r"must be right; load the tape again \(fault 9\)"):
            device.boot()
        simulation.set_memory(image(random_model(1100, 16, 1, 8), 16, 1024), 16)
        with pytest.raises(TritapeError, match=r"hidden size must be within the bitstream's limit.*fault 4"):
            device.boot()
        simulation.set_memory(image(model, 16, 1024), 16)
        device.load_tape(image(model, 16, 1024))
        assert device.counters()["crc_errors"] == 0


def test_saturations_are_counted_alike():
    """Formats far too narrow: hardware and golden model stay equal, and so do their counts of clamps, unit by unit."""
    model = random_model(64, 100, 2, 97)
    layers = []
    for layer in model.layers:
        projections = dict(layer.projections)
        for name in ("i", "o", "down"):
            projections[name] = dataclasses.replace(projections[name], exponent=projections[name].exponent + 7)
        layers.append(dataclasses.replace(layer, projections=projections, o_shift=2, m_shift=2))
    model = dataclasses.replace(model, layers=layers)
    golden = IntegerModel(model)
    with Simulation(CONFIG) as simulation:
        generator = Generator(simulation, model, 16, max_rows=1024)
        for token in (3, 7, 96):
            assert generator.feed(token).difference is None
            golden.step(token)
        counters = generator.device.counters()
    counted = {name.removeprefix("saturated_"): n for name, n in counters.items() if name.startswith("saturated_")}
    assert counted == golden.saturations
    assert all(counted[name] for name in ("dequantiser", "mlgru", "mixer", "residual"))


SHAPES = [(40, 65, 1, 97), (64, 256, 2, 256), (128, 512, 4, 512), (320, 800, 1, 1000), (512, 1536, 1, 300)]


@pytest.mark.parametrize("shape", SHAPES)
def test_cycle_model(shape: tuple[int, int, int, int]):
    """The estimate is within 1 % of RTL cycles at five shapes, and the hardware is exact at all of them."""
    model = random_model(*shape)
    with Simulation(CONFIG) as simulation:
        generator = Generator(simulation, model, 16, max_rows=1024)
        measured = []
        for token in (3, 7, 1):
            before = generator.device.counters()["running"]
            assert generator.feed(token).difference is None
            measured.append(generator.device.counters()["running"] - before)
    estimated, parts = token_cycles(model.config, CONFIG)
    assert estimated == pytest.approx(np.mean(measured[1:]), rel=0.01)
    assert sum(parts.values()) == pytest.approx(estimated, rel=1e-6)
