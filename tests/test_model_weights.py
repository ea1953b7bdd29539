"""Folders of weights as people have them: other names, downloads that broke off, pointers instead of files."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from torch_file import write_tensors

from tritape.base.errors import TritapeError
from tritape.model.checkpoint import load_checkpoint, random_checkpoint, save_checkpoint
from tritape.model.config import ModelConfig
from tritape.model.open import open_model
from tritape.model.stored import read_safetensors, serialise
from tritape.model.weights import download_command

SMALL = ModelConfig(vocab_size=6, hidden_size=4, num_hidden_layers=2, intermediate_size=3)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A small valid checkpoint that a test may damage."""
    save_checkpoint(random_checkpoint(SMALL, 1), tmp_path / "model")
    return tmp_path / "model"


def refused(folder: Path, message: str) -> None:
    with pytest.raises(TritapeError, match=re.escape(message)):
        load_checkpoint(folder)


def rename(folder: Path, change: Callable[[str], str]) -> None:
    path = folder / "model.safetensors"
    tensors = {change(name): stored for name, stored in read_safetensors(path).items()}
    path.write_bytes(b"".join(serialise(tensors)))


@pytest.mark.parametrize(
    "change",
    [
        lambda name: f"module.{name}",
        lambda name: f"module.module.{name}",
        lambda name: f"_orig_mod.{name}",
        lambda name: f"module._orig_mod.{name}",
        lambda name: f"_orig_mod.module.{name}",
        lambda name: name.replace("layers.0.", "layers.0._orig_mod."),
        lambda name: name.replace("attn.", "_fsdp_wrapped_module.attn."),
        lambda name: name.replace("mlp.", "_checkpoint_wrapped_module.mlp."),
        lambda name: f"model.{name}",
        lambda name: name.replace("embeddings", "embed_tokens"),
    ],
)
def test_prefixes_of_wrappers_and_other_names(folder: Path, change: Callable[[str], str]) -> None:
    wanted = load_checkpoint(folder).sha256
    rename(folder, change)
    assert load_checkpoint(folder).sha256 == wanted


def test_refuses_a_tensor_that_is_there_twice(folder: Path) -> None:
    path = folder / "model.safetensors"
    tensors = read_safetensors(path)
    path.write_bytes(b"".join(serialise({**tensors, "module.lm_head.weight": tensors["lm_head.weight"]})))
    refused(folder, "tensor lm_head.weight must be there once, not also as module.lm_head.weight; save the model")


def test_sharded_pickles(folder: Path) -> None:
    whole = load_checkpoint(folder)
    stored = read_safetensors(folder / "model.safetensors")
    names, weight_map = sorted(stored), {}
    for place, part in enumerate((names[::2], names[1::2]), 1):
        file = f"pytorch_model-0000{place}-of-00002.bin"
        write_tensors(folder / file, {name: (stored[name].dtype, stored[name].bits) for name in part})
        weight_map |= dict.fromkeys(part, file)
    (folder / "pytorch_model.bin.index.json").write_text(json.dumps({"metadata": {}, "weight_map": weight_map}))
    (folder / "model.safetensors").unlink()
    parts = load_checkpoint(folder)
    assert parts.sha256 == whole.sha256
    for name in names:
        np.testing.assert_array_equal(parts.tensor(name), whole.tensor(name))
    (folder / "pytorch_model-00002-of-00002.bin").unlink()
    refused(
        folder, "shard pytorch_model-00002-of-00002.bin must be in the folder, not missing (1 of 2 are); download it"
    )
    (folder / ".cache/huggingface/download").mkdir(parents=True)
    (folder / ".cache/huggingface/download/x.incomplete").touch()
    refused(folder, "download must be complete, not broken off (x.incomplete); run the command that began it again")


@pytest.mark.parametrize("name", ["model.safetensors.incomplete", "model.safetensors.part", "model.crdownload"])
def test_a_download_that_broke_off_is_named(folder: Path, name: str) -> None:
    (folder / "model.safetensors").rename(folder / name)
    refused(folder, f"download must be complete, not broken off ({name}); run the command that began it again")


@pytest.mark.parametrize("name", ["model.safetensors", "pytorch_model.bin"])
def test_a_pointer_of_git_lfs_is_named(folder: Path, name: str) -> None:
    (folder / "model.safetensors").unlink()
    (folder / name).write_text("version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n")
    refused(folder, f"{name}: file must hold the weights, not a pointer of Git LFS; run in its folder: git lfs pull")


def test_a_name_on_the_hub_gets_the_command(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    refused(
        Path("ridger/MMfreeLM-370M"),
        "ridger/MMfreeLM-370M: checkpoint must be a folder, not a name on the hub; "
        "run: hf download ridger/MMfreeLM-370M --local-dir MMfreeLM-370M",
    )
    (tmp_path / "models").mkdir()
    for path in ("models/mine", "mine", "a/b/c", "../x", "/a/b", "./a/b c"):
        assert download_command(Path(path)) is None, path
    with pytest.raises(
        TritapeError, match="or a name, not one on the hub; run: hf download ridger/MMfreeLM-370M --local-dir"
    ):
        open_model("ridger/MMfreeLM-370M")
