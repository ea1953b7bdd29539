"""The weight files of a checkpoint's folder, of either kind, and the names of their tensors as the released code has them."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

from tritape.base.errors import TritapeError
from tritape.model.config import read_json
from tritape.model.pickled import read_pickled
from tritape.model.stored import Stored, read_safetensors

EMBEDDINGS, HEAD = "model.embeddings.weight", "lm_head.weight"
_FILES = ("model.safetensors", "pytorch_model.bin")
"""In the order of preference; shards are named by the same with `.index.json`."""
_POINTER = b"version https://git-lfs"
_WRAPPERS = "_orig_mod|_fsdp_wrapped_module|_checkpoint_wrapped_module|_forward_module"
_WRAPPER = re.compile(rf"^(?:(?:module|{_WRAPPERS})\.)+|\b(?:{_WRAPPERS})\.")
_HUB_NAME = re.compile(r"[\w-][\w.-]*/[\w-][\w.-]*")


def check_folder(folder: Path) -> None:
    """Raise TritapeError unless this is a folder; for a name on the Hugging Face hub with the command that downloads it."""
    if folder.is_dir():
        return
    if folder.exists():
        raise TritapeError(f"{folder}: checkpoint must be a folder, not a file; give the folder that holds config.json")
    if (command := download_command(folder)) is not None:
        raise TritapeError(f"{folder}: checkpoint must be a folder, not a name on the hub; run: {command}")
    raise TritapeError(f"{folder}: checkpoint must be a folder, not missing; give the folder that holds config.json")


def download_command(path: Path) -> str | None:
    """The command that downloads a model, if a path that does not exist reads like a name on the Hugging Face hub."""
    name = str(path)
    if not _HUB_NAME.fullmatch(name) or path.parent.exists():
        return None
    return f"hf download {name} --local-dir {path.name}"


def read_weights(folder: Path) -> tuple[dict[str, Stored], tuple[Path, ...]]:
    """The tensors of a folder, by their names in the released code, and the files that they are in.

    Raises TritapeError naming the file, what is wrong and the cure.
    """
    kind, files = _weight_files(folder)
    read = read_safetensors if kind == "model.safetensors" else read_pickled
    tensors: dict[str, Stored] = {}
    for file in files:
        with file.open("rb") as stream:
            if stream.read(len(_POINTER)) == _POINTER:
                raise TritapeError(
                    f"{file}: file must hold the weights, not a pointer of Git LFS; run in its folder: git lfs pull"
                )
        tensors.update(read(file))
    return _released_names(tensors), files


def _weight_files(folder: Path) -> tuple[str, tuple[Path, ...]]:
    """The kind of a folder's weights, and their files in name order: a single one, or the shards that an index names."""
    for kind in _FILES:
        if (folder / kind).is_file():
            return kind, (folder / kind,)
        if (folder / f"{kind}.index.json").is_file():
            return kind, _shards(folder / f"{kind}.index.json")
    _check_complete(folder)
    names = " or ".join(_FILES)
    raise TritapeError(f"{folder}: folder must hold {names}, or one in parts, not neither; download the model again")


def _shards(index: Path) -> tuple[Path, ...]:
    weight_map = read_json(index).get("weight_map")
    if not isinstance(weight_map, dict) or not all(isinstance(shard, str) for shard in weight_map.values()):
        raise TritapeError(
            f"{index}: weight_map must map tensors to file names, not {type(weight_map).__name__}; download it again"
        )
    shards = sorted(set(weight_map.values()))
    for shard in shards:
        if Path(shard).name != shard:
            raise TritapeError(f"{index}: shard must be a plain file name, not {shard!r}; correct the index")
    missing = [shard for shard in shards if not (index.parent / shard).is_file()]
    if missing:
        _check_complete(index.parent)
        raise TritapeError(
            f"{index}: shard {missing[0]} must be in the folder, not missing ({len(missing)} of {len(shards)} are); "
            "download it"
        )
    return tuple(index.parent / shard for shard in shards)


def _check_complete(folder: Path) -> None:
    """Raise TritapeError for what a download leaves that has not ended."""
    for pattern in ("*.incomplete", ".cache/huggingface/download/**/*.incomplete", "*.part", "*.crdownload"):
        for found in folder.glob(pattern):
            raise TritapeError(
                f"{folder}: download must be complete, not broken off ({found.name}); run the command that began it again"
            )


def _released_names(tensors: Mapping[str, Stored]) -> dict[str, Stored]:
    """Tensors without the prefixes that training wrappers leave, and with the embedding's name as in the released code."""
    named: dict[str, Stored] = {}
    for name, stored in tensors.items():
        clean = _WRAPPER.sub("", name)
        clean = re.sub(r"^model\.(?=model\.|lm_head\.)", "", clean)
        clean = clean.replace("model.embed_tokens.", "model.embeddings.")
        if clean in named:
            raise TritapeError(
                f"{stored.file}: tensor {clean} must be there once, not also as {name}; save the model without wrappers"
            )
        named[clean] = stored
    return named
