"""`tritape random-checkpoint`, `pack`, `golden` and `timeline` from the command line: a shape becomes a tape that runs."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import pytest

from tritape import cli
from tritape.model.checkpoint import load_checkpoint
from tritape.model.config import ModelConfig
from tritape.model.data import embedded_models
from tritape.model.formats import quantise_model
from tritape.model.golden import IntegerModel
from tritape.model.reference import FloatModel
from tritape.model.tape.container import read_tape
from tritape.model.tape.reader import read_model

SHAPE = ModelConfig(vocab_size=256, hidden_size=40, num_hidden_layers=3, intermediate_size=65)


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The working folder, with the shape in shape.json."""
    (tmp_path / "shape.json").write_text(json.dumps(SHAPE.to_dict()))
    monkeypatch.chdir(tmp_path)
    return tmp_path


def run(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> int:
    monkeypatch.setattr(sys, "argv", ["tritape", *arguments])
    with pytest.raises(SystemExit) as end:
        cli.main()
    assert isinstance(end.value.code, int)
    return end.value.code


def test_from_shape_to_tokens(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert (
        run(monkeypatch, "random-checkpoint", "--shape", "shape.json", "-o", "m", "--layers", "2", "--seed", "4") == 0
    )
    checkpoint = load_checkpoint(here / "m")
    assert checkpoint.config.num_hidden_layers == 2
    assert run(monkeypatch, "pack", "m", "-o", "m.tape", "--json", "pack.json") == 0
    packed = json.loads((here / "pack.json").read_text())
    assert packed["image_bytes"] == len(read_tape(here / "m.tape").image)
    assert packed["peak_memory_bytes"] > 10e6
    assert 0 < packed["seconds"] < 100
    assert (
        run(monkeypatch, "golden", "m.tape", "--token", "7", "--token", "9", "--tokens", "3", "--json", "g.json") == 0
    )
    result = json.loads((here / "g.json").read_text())
    assert result["fed"] == [7, 9]
    model = IntegerModel(quantise_model(checkpoint))
    chosen = [int(np.argmax(model.run_integer([7, 9])[-1]))]
    chosen += [int(np.argmax(model.step(chosen[-1])))]
    assert result["chosen"] == [*chosen, int(np.argmax(model.step(chosen[-1])))]
    assert result["saturations"] == model.saturations


@pytest.fixture
def recorded(here: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, np.ndarray]:
    """Checkpoint m with the float model's own logits, as a recording of the authors' code would hold them."""
    assert run(monkeypatch, "random-checkpoint", "--shape", "shape.json", "-o", "m") == 0
    ids = np.array([[1, 2, 3, 4]])
    logits = FloatModel(load_checkpoint(here / "m")).run(ids[0])[None]
    np.savez(here / "right.npz", ids=ids, logits=logits)
    return {"ids": ids, "logits": logits}


CHECK = ("check", "m", "--integer-tolerance", "0.5", "--json", "c.json", "--against")


def test_check_says_when_logits_disagree(here, recorded, monkeypatch, capsys) -> None:
    assert run(monkeypatch, *CHECK, "right.npz") == 0
    result = json.loads((here / "c.json").read_text())
    assert result["within_tolerance"] is True
    assert (result["tolerance"], result["integer_tolerance"]) == (1e-5, 0.5)
    largest = np.abs(recorded["logits"]).max()
    for error, code in ((0.9e-5, 0), (1.1e-5, 1), (1.55, 1)):
        wrong = recorded["logits"].copy()
        wrong[0, 2, np.abs(wrong[0, 2]).argmin()] += error * largest
        np.savez(here / "wrong.npz", ids=recorded["ids"], logits=wrong)
        assert run(monkeypatch, *CHECK, "wrong.npz") == code
        result = json.loads((here / "c.json").read_text())
        assert result["within_tolerance"] is (code == 0)
        assert ("float model's error must be at most 1e-05, not" in capsys.readouterr().err) is (code == 1)
    assert run(monkeypatch, *CHECK, "wrong.npz", "--tolerance", "2", "--integer-tolerance", "0.1") == 1, (
        "the integer model is beyond its own too"
    )
    assert "integer model's error must be at most 0.1, not" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"logits": np.nan}, "x.npz: logits must be finite numbers, not infinite or not a number; record them again"),
        ({"logits": 0}, "x.npz: logits must be finite numbers, not all 0; record them again"),
        (
            {"ids": 256},
            "token id must be from 0 to 255, not 256; use the tokenizer of this checkpoint",
        ),
        ({"ids": -1}, "token id must be from 0 to 255, not -1; use the tokenizer of this checkpoint"),
    ],
)
def test_check_refuses_recordings_that_cannot_be(here, recorded, monkeypatch, capsys, change, message) -> None:
    arrays = {name: array.copy() for name, array in recorded.items()}
    for name, value in change.items():
        arrays[name][0, 1] = value
        if name == "logits" and value == 0:
            arrays[name][:] = 0
    np.savez(here / "x.npz", **arrays)
    assert run(monkeypatch, *CHECK, "x.npz") == 2
    assert capsys.readouterr().err.startswith(f"tritape: {message}")
    assert run(monkeypatch, *CHECK, "right.npz", "--tolerance", "nan") == 2
    assert "tolerance must be a number from 0 on, not nan" in capsys.readouterr().err


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16"])
def test_a_text_as_windows_saves_it(here, monkeypatch, encoding) -> None:
    (here / "text").write_bytes("a text, and\r\nmore of it".encode(encoding))
    assert run(monkeypatch, "random-checkpoint", "--shape", "shape.json", "-o", "m") == 0
    assert run(monkeypatch, "pack", "m", "-o", "m.tape", "--text", "text") == 0
    found = read_model(read_tape(here / "m.tape"))
    assert found.head.eps == quantise_model(load_checkpoint(here / "m"), list(b"a text, and\nmore of it")).head.eps


def test_calibration_on_a_text(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a tokenizer a text is its bytes; the formats are those of calibrating on them."""
    (here / "text").write_text("a text, and more of it")
    assert run(monkeypatch, "random-checkpoint", "--shape", "shape.json", "-o", "m") == 0
    assert run(monkeypatch, "pack", "m", "-o", "m.tape", "--text", "text") == 0
    found = read_model(read_tape(here / "m.tape"))
    wanted = quantise_model(load_checkpoint(here / "m"), list(b"a text, and more of it"))
    assert [p.eps for p in found.layers[1].projections.values()] == [
        p.eps for p in wanted.layers[1].projections.values()
    ]
    assert found.head.eps == wanted.head.eps != quantise_model(load_checkpoint(here / "m")).head.eps


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            ["random-checkpoint", "--shape", "7b", "-o", "m"],
            "shape must be a config.json or one of 370m, 1.3b, 2.7b, not '7b'; choose one of them",
        ),
        (
            ["random-checkpoint", "--shape", "shape.json", "-o", "m", "--layers", "0"],
            "layers must be at least 1, not 0; ",
        ),
        (
            ["random-checkpoint", "--shape", "shape.json", "-o", "m", "--dtype", "int8"],
            "dtype must be one of float16, ",
        ),
        (
            ["random-checkpoint", "--shape", "bad.json", "-o", "m"],
            "bad.json: model_type must be 'hgrn_bit', not missing; ",
        ),
        (
            ["pack", "none"],
            "none: model must be a checkpoint folder, a tape or a name, not missing; names are austen-128x4, ",
        ),
        (["pack", "nano", "--text", "none"], "none: text must be a file, not missing; give its path"),
        (["golden", "none.tape"], "none.tape: tape must be a file, not missing; make one with `tritape pack`"),
        (["golden", "bad.json"], "bad.json: file must start with b'TRITAPE1', not b'{}'; "),
        (["golden", "none.tape", "--tokens", "0"], "tokens must be at least 1, not 0; "),
        (["timeline", "7b", "--json", "t.json"], "model must be a checkpoint folder or a name, not '7b'; "),
        (
            ["timeline", "370m", "--json", "t.json", "--clock", "0"],
            "clock and bandwidth must be positive, not 0.0 and None; ",
        ),
        (["report", "none"], "none: measurements must be a folder, not missing; "),
    ],
)
def test_refusals(
    here: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    arguments: list[str],
    message: str,
) -> None:
    (here / "bad.json").write_text("{}")
    before = sorted(here.rglob("*"))
    assert run(monkeypatch, *arguments) == 2
    output = capsys.readouterr()
    assert output.err.startswith(f"tritape: {message}")
    assert output.err.count("\n") == 1
    assert sorted(here.rglob("*")) == before


def test_embedded_models_go_by_name(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Unless something of that name is there."""
    assert run(monkeypatch, "pack", "nano", "-o", "nano.tape") == 0
    shape = load_checkpoint(embedded_models()["nano"]).config
    assert read_tape(here / "nano.tape").metadata["config"] == shape.to_dict()
    assert run(monkeypatch, "random-checkpoint", "--shape", "shape.json", "-o", "nano") == 0
    assert run(monkeypatch, "pack", "nano", "-o", "own.tape") == 0
    assert read_tape(here / "own.tape").metadata["config"] == SHAPE.to_dict()
