"""Random checkpoints on disk: named honestly, right statistics, right bytes, and refusals."""

from __future__ import annotations

import json
import re
import tracemalloc
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from safetensors import safe_open

from tritape.base.errors import TritapeError
from tritape.model import random_checkpoint
from tritape.model.checkpoint import load_checkpoint
from tritape.model.config import ModelConfig
from tritape.model.random_checkpoint import NOTICE, write_random_checkpoint
from tritape.model.tokenizer import load_tokenizer

SMALL = ModelConfig(vocab_size=97, hidden_size=40, num_hidden_layers=2, intermediate_size=65)


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_statistics(tmp_path: Path, dtype: str) -> None:
    config = replace(SMALL, vocab_size=500, hidden_size=160, intermediate_size=400)
    write_random_checkpoint(config, tmp_path / "m", 5, dtype)
    checkpoint = load_checkpoint(tmp_path / "m")
    assert checkpoint.config == config
    for prefix in ("lm_head", "model.layers.0.attn.i_proj", "model.layers.1.mlp.down_proj"):
        linear = checkpoint.bitlinear(prefix)
        assert 0.28 <= np.mean(linear.weights == 0) <= 0.38, prefix
        assert abs(linear.weights.mean()) < 0.02
        assert linear.gain.mean() == pytest.approx(1, abs=0.05)
        assert 0.05 < linear.gain.std() < 0.15
    assert checkpoint.tensor("model.embeddings.weight").std() == pytest.approx(0.5, rel=0.05)


def test_says_that_it_is_random(tmp_path: Path) -> None:
    write_random_checkpoint(SMALL, tmp_path / "m", 7)
    assert NOTICE in json.loads((tmp_path / "m/config.json").read_text())["description"]
    assert "not a trained model" in (tmp_path / "m/README.md").read_text()
    assert "seed 7" in (tmp_path / "m/README.md").read_text()
    with safe_open(tmp_path / "m/model.safetensors", "numpy") as file:
        assert NOTICE in file.metadata()["description"]


def test_its_texts_are_ids(tmp_path: Path) -> None:
    write_random_checkpoint(SMALL, tmp_path / "m", 7)
    codec = load_tokenizer(load_checkpoint(tmp_path / "m"))
    assert codec.encode("<7> <96> word") == [7, 96, 0]
    assert codec.decode([7, 96]) == "<7> <96>"
    assert "".join(map(codec.stream([7]).push, [96, 0])) == " <96> <0>"


def test_bytes_follow_from_the_seed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Equal seeds give equal bytes, however large the chunks are; the size is what was told."""
    seen: list[tuple[int, int]] = []
    size = write_random_checkpoint(SMALL, tmp_path / "a", 1, progress=lambda done, total: seen.append((done, total)))
    monkeypatch.setattr(random_checkpoint, "CHUNK", 77)
    write_random_checkpoint(SMALL, tmp_path / "b", 1)
    write_random_checkpoint(SMALL, tmp_path / "c", 2)
    first, again, other = ((tmp_path / name / "model.safetensors").read_bytes() for name in "abc")
    assert first == again
    assert first[-100:] != other[-100:]
    assert size == len(first)
    assert seen[-1][0] == seen[-1][1] > 0


def test_bfloat16_rounds_to_nearest() -> None:
    """Below, at and above the half, with an even and an odd code before it, and a carry into the exponent."""
    bits = [0x3F807FFF, 0x3F808000, 0x3F808001, 0x3F817FFF, 0x3F818000, 0xBF818000, 0x3FFF8000, 0x80000000]
    wanted = [0x3F80, 0x3F80, 0x3F81, 0x3F81, 0x3F82, 0xBF82, 0x4000, 0x8000]
    values = np.array(bits, "<u4").view("<f4")
    assert random_checkpoint._encode(values, "bfloat16").tolist() == wanted


def test_memory_is_that_of_chunks(tmp_path: Path) -> None:
    """A model of 60 MB is written with a few chunks of memory."""
    config = ModelConfig(vocab_size=8000, hidden_size=1024, num_hidden_layers=1, intermediate_size=2816)
    tracemalloc.start()
    size = write_random_checkpoint(config, tmp_path / "m")
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert size > 55e6
    assert peak < 16e6


def test_refusals(tmp_path: Path) -> None:
    def refused(message: str, folder: str = "m", **arguments: object) -> None:
        with pytest.raises(TritapeError, match=re.escape(message)):
            write_random_checkpoint(SMALL, tmp_path / folder, **arguments)  # type: ignore[arg-type]

    refused("dtype must be one of float16, bfloat16, not 'float8'", dtype="float8")
    refused("seed must be from 0 to 2^63 - 1, not -1", seed=-1)
    assert not (tmp_path / "m").exists()
    (tmp_path / "file").write_text("")
    refused("output must be a folder, not a file", "file")
    (tmp_path / "other").mkdir()
    (tmp_path / "other/config.json").write_text("{}")
    refused("folder must be empty or a random checkpoint, not hold config.json", "other")
    write_random_checkpoint(SMALL, tmp_path / "m", 1)
    write_random_checkpoint(SMALL, tmp_path / "m", 2)  # over its own
    (tmp_path / "m/notes.txt").write_text("")
    refused("folder must be empty or a random checkpoint, not hold notes.txt")


def test_full_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("shutil.disk_usage", lambda path: type("Usage", (), {"free": 1000})())
    with pytest.raises(TritapeError, match=r"disk must have [\d,]+ bytes free, not 1,000; choose fewer layers"):
        write_random_checkpoint(SMALL, tmp_path / "m")


def test_interrupt_leaves_no_weights(tmp_path: Path) -> None:
    def stop(done: int, total: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_random_checkpoint(SMALL, tmp_path / "m", progress=stop)
    assert sorted(path.name for path in (tmp_path / "m").iterdir()) == ["README.md", "config.json", "tokenizer.json"]
    write_random_checkpoint(SMALL, tmp_path / "m")
    load_checkpoint(tmp_path / "m")
