"""What `pack` says at its end: integer against float, and weights that were ternary before."""

from __future__ import annotations

import json
import math
import shutil
from pathlib import Path

import numpy as np
import pytest

from tritape.cli import app, register
from tritape.model.checkpoint import Checkpoint, load_checkpoint, save_checkpoint
from tritape.model.data import default_model_path, embedded_models
from tritape.model.formats import quantise_model
from tritape.model.golden import IntegerModel
from tritape.model.quality import LIMIT, Quality, Scores, compare, readings, score
from tritape.model.reference import FloatModel, perplexity
from tritape.model.tokenizer import load_tokenizer

NANO = embedded_models()["nano"]
TEXT = (default_model_path() / "heldout.txt").read_text()


def pack(folder: Path, *options: str) -> None:
    """`tritape pack`, in this process."""
    register()
    app(["pack", str(folder), "-o", str(folder.parent / "x.tape"), *options], standalone_mode=False)


def test_scores_are_the_perplexity_of_a_text() -> None:
    model = FloatModel(load_checkpoint(NANO))
    ids = load_tokenizer(load_checkpoint(NANO)).encode(TEXT[:300])
    scores = score(model.run(ids), ids)
    assert scores.perplexity == pytest.approx(perplexity(model, ids))
    assert Scores(np.array([1e9]), np.array([0])).perplexity == math.exp(700)


def test_quality_is_that_of_the_integer_model() -> None:
    """Both models run the calibration text anyway; what comes out is what running them on it gives."""
    checkpoint = load_checkpoint(NANO)
    ids = load_tokenizer(checkpoint).encode(TEXT[:300])
    told: list[Quality | None] = []
    model = quantise_model(checkpoint, ids, quality=told.append)
    floats, integers = FloatModel(checkpoint).run(ids), IntegerModel(model).run(ids)
    assert told == [compare(score(floats, ids), score(integers, ids))]
    assert told[0] is not None
    assert told[0].tokens == len(ids) - 1
    assert told[0].top1 == np.mean(floats[:-1].argmax(1) == integers[:-1].argmax(1))
    assert not told[0].is_poor
    quantise_model(checkpoint, [5], quality=told.append)
    assert told[1] is None


def test_poor_is_what_is_worse_by_more_than_chance() -> None:
    assert not Quality(100, 10, 10 * (1 + 0.9 * LIMIT), 1, 0).is_poor
    assert Quality(100, 10, 10.2, 1, 0.009).is_poor
    assert not Quality(100, 10, 10.2, 1, 0.011).is_poor
    assert not Quality(100, 10, 9, 1, 0).is_poor
    assert str(Quality(9, 10, 10.2, 0.5, 0.009)).endswith("10.2 against 10 (+2.00% ± 0.90%), the same choice at 50.0%")


def test_pack_ends_with_the_quality(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "text").write_text(TEXT[:900])
    folder = tmp_path / "nano"
    shutil.copytree(NANO, folder)
    pack(folder, "--json", str(tmp_path / "a.json"), "--text", str(tmp_path / "text"))
    found = json.loads((tmp_path / "a.json").read_text())
    assert found["quality"]["tokens"] == 191
    assert (
        found["quality"]["change"] == found["quality"]["integer_perplexity"] / found["quality"]["float_perplexity"] - 1
    )
    assert found["already_ternary"] == 25
    lines = capsys.readouterr().err.splitlines()
    assert lines[-1].startswith("integer against float on 191 tokens of the calibration text: perplexity ")
    assert lines[-2] == (
        "25 matrices were ternary before: read with their mean magnitude, as in the published code, as scale"
    )


def test_pack_warns_of_a_poor_format(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tritape.model.formats.MAX_RESIDUAL_FRACTION", 0)
    folder = tmp_path / "nano"
    shutil.copytree(NANO, folder)
    pack(folder)
    assert "warning: perplexity must grow by at most 1%, not " in capsys.readouterr().err


def written_twice() -> Checkpoint:
    """A model whose weights were saved as a first quantisation left them."""
    source = load_checkpoint(NANO)
    tensors = {name: source.tensor(name) for name, _ in source.config.tensor_shapes()}
    for name in tensors:
        prefix = name.removesuffix(".weight")
        if f"{prefix}.norm.weight" in tensors:
            tensors[name] = (source.ternary(prefix) * source.scale(prefix)).astype(np.float32)
    return Checkpoint.from_arrays(source.config, tensors)


def test_weights_that_were_made_ternary_twice_are_found(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """They predict a text worse when quantised again; with the cure the model is what it was."""
    folder = tmp_path / "nano"
    save_checkpoint(written_twice(), folder)
    shutil.copyfile(NANO / "tokenizer.json", folder / "tokenizer.json")
    pack(folder)
    assert '"ternary_scale": "own" into config.json and pack again' in " ".join(capsys.readouterr().err.split())
    source = load_checkpoint(NANO)
    ids = load_tokenizer(source).encode(TEXT[:300])
    path = folder / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"ternary_scale": "own"}))
    mended = load_checkpoint(folder)
    np.testing.assert_allclose(FloatModel(mended).run(ids), FloatModel(source).run(ids), rtol=1e-5, atol=1e-5)
    pack(folder)
    error = capsys.readouterr().err
    assert "25 matrices were ternary before: read with their own magnitude as scale" in error
    assert "warning" not in error
    mean, own = readings(source, ids)
    assert mean < 0.9 * own


def test_what_a_tape_cannot_run_is_refused_before_the_work(tmp_path: Path) -> None:
    folder = tmp_path / "model"
    shutil.copytree(embedded_models()["small"], folder)
    (folder / "tokenizer.json").write_text("{")
    with pytest.raises(ValueError, match=r"tokenizer\.json: file must be a tokenizer, not damaged"):
        pack(folder)
    (folder / "tokenizer.json").unlink()
    with pytest.raises(ValueError, match=r"model: tokenizer\.json must be in the folder, not missing; take it from"):
        pack(folder)
    assert not (tmp_path / "x.tape").exists()
