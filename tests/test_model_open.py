"""One way to open a model: a folder, a tape or a name gives the same integers, text codec and image."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from tritape.base.errors import TritapeError
from tritape.model.checkpoint import random_checkpoint, save_checkpoint
from tritape.model.config import ModelConfig
from tritape.model.data import default_model_path, embedded_models
from tritape.model.open import find_model, open_model
from tritape.model.tape.assembler import pack
from tritape.model.tape.layout import Geometry

SHAPE = ModelConfig(vocab_size=256, hidden_size=20, num_hidden_layers=1, intermediate_size=24)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A checkpoint without tokenizer.json: its text is bytes."""
    save_checkpoint(random_checkpoint(SHAPE, seed=3), tmp_path / "model")
    return tmp_path / "model"


def test_folder_and_tape_are_the_same_model(folder: Path, tmp_path: Path) -> None:
    steps: list[tuple[int, int]] = []
    from_folder = open_model(folder, lambda done, total: steps.append((done, total)))
    assert not steps, "nothing is calibrated before the integers are asked for"
    tape = tmp_path / "packed.tape"
    pack(from_folder.quantised, tape, 8, 512, name="packed")
    assert steps
    from_tape = open_model(str(tape))
    assert (from_folder.name, from_tape.name) == ("model", "packed")
    assert from_folder.config == from_tape.config == SHAPE
    assert from_folder.sha256 == from_tape.sha256
    assert from_folder.codec.encode("tape") == from_tape.codec.encode("tape") == [*b"tape"]
    weights = [model.quantised.layers[0].projections["down"].weights for model in (from_folder, from_tape)]
    assert np.array_equal(*weights)
    assert from_tape.tape is not None
    assert from_folder.image(Geometry(8), 512) == from_tape.image(Geometry(8), 512) == bytes(from_tape.tape.image)


def test_names_are_those_of_the_embedded_models() -> None:
    assert open_model().path == default_model_path()
    for name, path in embedded_models().items():
        assert find_model(name) == path
        assert open_model(name).name == name


def test_a_path_comes_before_a_name(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder.rename(folder.parent / "nano")
    monkeypatch.chdir(folder.parent)
    assert open_model("nano").config == SHAPE


def test_a_folder_that_is_no_model_does_not_hide_a_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "base").mkdir()
    monkeypatch.chdir(tmp_path)
    assert find_model("base") == embedded_models()["base"]


def test_no_model_is_said_with_the_names() -> None:
    with pytest.raises(
        TritapeError,
        match=r"^nowhere: model must be a checkpoint folder, a tape or a name, not missing; names are .*small",
    ):
        open_model("nowhere")


def test_a_tape_without_text(tmp_path: Path) -> None:
    shape = ModelConfig(vocab_size=97, hidden_size=20, num_hidden_layers=1, intermediate_size=24)
    save_checkpoint(random_checkpoint(shape, seed=1), tmp_path / "model")
    tape = tmp_path / "model.tape"
    pack(open_model(tmp_path / "model").quantised, tape, 8, 512, name="model")
    opened = open_model(tape)
    assert not opened.has_text
    with pytest.raises(TritapeError, match=r"model.tape: tape must hold a tokenizer, not none; pack it from a folder"):
        _ = opened.codec
