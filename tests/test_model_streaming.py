"""A model too large to hold: the same tape and the same logits as a model that is held, with bounded memory."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from tritape.model import formats, golden, quantised
from tritape.model.checkpoint import Checkpoint, load_checkpoint
from tritape.model.config import ModelConfig
from tritape.model.formats import calibration_ids, quantise_model
from tritape.model.golden import IntegerModel, Trace
from tritape.model.quantised import Layer, StreamedLayers
from tritape.model.random_checkpoint import write_random_checkpoint
from tritape.model.reference import FloatModel
from tritape.model.tape import reader
from tritape.model.tape.assembler import image, pack
from tritape.model.tape.container import read_tape
from tritape.model.tape.reader import read_model

ODD = ModelConfig(vocab_size=97, hidden_size=40, num_hidden_layers=4, intermediate_size=65)
IDS = [3, 96, 0, 41, 5, 6]


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Checkpoint:
    folder = tmp_path_factory.mktemp("odd")
    write_random_checkpoint(ODD, folder / "m", 3)
    return load_checkpoint(folder / "m")


@pytest.fixture
def tiny_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every model is too large to hold."""
    for module in (formats, golden, reader):
        monkeypatch.setattr(module, "RESIDENT_WEIGHTS", 1)


def test_equal_tapes(checkpoint: Checkpoint, request: pytest.FixtureRequest) -> None:
    held = quantise_model(checkpoint, IDS)
    assert isinstance(held.layers, list)
    wanted = image(held, 16, 32)
    request.getfixturevalue("tiny_memory")
    told: list[tuple[int, int]] = []
    streamed = quantise_model(checkpoint, IDS, lambda done, total: told.append((done, total)))
    assert isinstance(streamed.layers, StreamedLayers)
    assert image(streamed, 16, 32) == wanted
    assert told == [(done, 2 * ODD.num_hidden_layers) for done in range(1, 2 * ODD.num_hidden_layers + 1)]


def test_equal_logits(checkpoint: Checkpoint, tmp_path: Path, request: pytest.FixtureRequest) -> None:
    """The golden model from a streamed tape, token by token and with every unit's outputs."""
    held = IntegerModel(quantise_model(checkpoint, IDS))
    pack(held.model, tmp_path / "m.tape", 13, 32)
    request.getfixturevalue("tiny_memory")
    streamed = IntegerModel(read_model(read_tape(tmp_path / "m.tape")))
    assert isinstance(streamed.model.layers, StreamedLayers)
    for token in IDS:
        wanted, found = Trace(), Trace()
        assert np.array_equal(held.step(token, wanted), streamed.step(token, found))
        assert wanted.first_difference({unit: found.flat(unit) for unit in golden.UNITS}) is None
    assert held.saturations == streamed.saturations


@pytest.mark.usefixtures("tiny_memory")
def test_layers_are_dropped(checkpoint: Checkpoint) -> None:
    """Two layers are kept, each is made once while the tape goes over them, and one matrix is kept as float."""
    model = quantise_model(checkpoint, IDS)
    layers = model.layers
    assert isinstance(layers, StreamedLayers)
    made: list[tuple[int, str]] = []
    weights = layers._weights
    layers._weights = lambda index, name: made.append((index, name)) or weights(index, name)  # type: ignore[func-returns-value]
    image(model, 16, 32)
    assert made == [(index, name) for index in range(4) for name in quantised.PROJECTIONS]
    assert len(layers._kept) == StreamedLayers.KEPT
    runner = IntegerModel(model)
    runner.run_integer(IDS)
    assert len(runner._matrices) == 1


def test_streamed_float_model(checkpoint: Checkpoint) -> None:
    held, streamed = FloatModel(checkpoint), FloatModel(checkpoint, streamed=True)
    for ids in (IDS, [7]):
        assert np.array_equal(held.run(ids), streamed.run(ids))
    assert streamed._held is None


@pytest.mark.usefixtures("tiny_memory")
def test_calibration_ids_of_a_streamed_model(checkpoint: Checkpoint) -> None:
    ids = calibration_ids(checkpoint)
    assert len(ids) == 192
    assert ids == calibration_ids(checkpoint)
    assert 0 <= min(ids) <= max(ids) < 97


def test_layers_are_a_sequence(checkpoint: Checkpoint) -> None:
    model = quantise_model(checkpoint, IDS)
    plain = [quantised.without_weights(layer) for layer in model.layers]
    assert all(p.weights.size == 0 for layer in plain for p in layer.projections.values())
    layers = StreamedLayers(plain, lambda index, name: model.layers[index].projections[name].weights)
    assert len(layers) == 4
    last = layers[-1]
    assert isinstance(last, Layer)
    assert last.projections["o"].weights is model.layers[3].projections["o"].weights
    assert [layer.o_shift for layer in layers[1:3]] == [layer.o_shift for layer in model.layers[1:3]]
    with pytest.raises(IndexError):
        layers[4]


PACK = """
import sys
from pathlib import Path
from tritape.cli.model import peak_memory
from tritape.model import formats, golden
from tritape.model.checkpoint import load_checkpoint
from tritape.model.tape.assembler import pack
formats.RESIDENT_WEIGHTS = golden.RESIDENT_WEIGHTS = int(sys.argv[2])
folder = Path(sys.argv[1])
before = peak_memory()
pack(formats.quantise_model(load_checkpoint(folder / "m"), [1, 2]), folder / "m.tape", 16)
print(peak_memory() - before)
"""


@pytest.mark.slow
def test_memory_of_packing(tmp_path: Path) -> None:
    """Of 4 layers with 51 million weights: held, all of them as float32; streamed, those of a layer or two."""
    config = ModelConfig(vocab_size=512, hidden_size=1024, num_hidden_layers=4, intermediate_size=2816)
    write_random_checkpoint(config, tmp_path / "m")

    def grown(resident: int) -> int:
        command = [sys.executable, "-c", PACK, str(tmp_path), str(resident)]
        return int(subprocess.run(command, check=True, capture_output=True, text=True).stdout)

    held, tape = grown(1 << 30), (tmp_path / "m.tape").read_bytes()
    streamed = grown(1 << 20)
    assert (tmp_path / "m.tape").read_bytes() == tape
    assert held > 51e6 * 4
    assert streamed < 0.6 * held
