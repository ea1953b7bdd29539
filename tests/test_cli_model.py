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
from tritape.model.tape.container import read_tape
from tritape.model.tape.reader import read_model

SHAPE = ModelConfig(vocab_size=256, hidden_size=40, num_hidden_layers=3, intermediate_size=65)


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The working folder, with the shape in shape.json."""
    (tmp_path / "shape.json").write_text(json.dumps(SHAPE.to_dict()))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(cli, "GROUPS", ["model", "report"])
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
