"""Checkpoints of any shape with random weights, written as they are drawn: to try sizes, not to write text.

The folder says so itself: in config.json, in the header of model.safetensors and in a README.md.
"""

from __future__ import annotations

import json
import math
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tritape.base.errors import TritapeError
from tritape.base.files import replacing
from tritape.model.config import ModelConfig
from tritape.model.tokenizer import BYTE_VOCABULARY

DTYPES = {"float16": "F16", "bfloat16": "BF16"}
"""Types that the matrices can be stored in, with their safetensors names. Vectors are float32."""
NOTICE = "random weights, not a trained model: made by tritape random-checkpoint"
CHUNK = 1 << 20  # numbers drawn at a time
_FILES = ("config.json", "README.md", "model.safetensors", "tokenizer.json")


def write_random_checkpoint(
    config: ModelConfig,
    folder: Path,
    seed: int = 0,
    dtype: str = "float16",
    progress: Callable[[int, int], None] | None = None,
) -> int:
    """Write config.json, README.md, tokenizer.json and model.safetensors to `folder`; the bytes of the latter. Memory: a few
    chunks.

    Statistics as of a trained model, so that ranges and packing are realistic: matrices normal with deviation
    2 / sqrt(K), of which 31 % are zero once ternary; embeddings normal with 0.5; gains normal around 1 with 0.1; lower
    bounds standard normal. The text of token 7 is `<7>`, but a vocabulary of 256 is bytes. Equal arguments give equal bytes.
    `progress(numbers written, all)`.

    Raises TritapeError for a folder that holds anything else than such a checkpoint, too little space on its disk, a
    negative seed or an unknown dtype.
    """
    if dtype not in DTYPES:
        raise TritapeError(f"dtype must be one of {', '.join(DTYPES)}, not {dtype!r}; choose one of them")
    if not 0 <= seed < 1 << 63:
        raise TritapeError(f"seed must be from 0 to 2^63 - 1, not {seed!r}; choose another")
    header, size = _header(config, dtype, seed)
    _claim(folder, size)
    entries = config.to_dict() | {"description": f"{NOTICE} (seed {seed})"}
    with replacing(folder / "config.json") as stream:
        stream.write(json.dumps(entries, indent=1).encode() + b"\n")
    with replacing(folder / "README.md") as stream:
        stream.write(_readme(config, seed, dtype).encode())
    if config.vocab_size != BYTE_VOCABULARY:
        with replacing(folder / "tokenizer.json") as stream:
            stream.write(json.dumps(_tokenizer(config.vocab_size), separators=(",", ":")).encode() + b"\n")
    total = sum(math.prod(shape) for _, shape in config.tensor_shapes())
    written = 0
    with replacing(folder / "model.safetensors") as stream:
        stream.write(header)
        rng = np.random.default_rng(seed)
        for name, shape in config.tensor_shapes():
            for values in _draw(rng, name, shape):
                stream.write(_encode(values, dtype if len(shape) == 2 else "float32").tobytes())
                written += values.size
                if progress is not None:
                    progress(written, total)
    return size


def _tokenizer(vocab_size: int) -> dict[str, Any]:
    """A tokenizer.json in which a text is ids: `<7> <12>`; any other word is token 0."""
    vocabulary = {f"<{token}>": token for token in range(vocab_size)}
    return {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": [],
        "normalizer": None,
        "pre_tokenizer": {"type": "WhitespaceSplit"},
        "post_processor": None,
        "decoder": None,
        "model": {"type": "WordLevel", "vocab": vocabulary, "unk_token": "<0>"},
    }


def _claim(folder: Path, size: int) -> None:
    """Make the folder, unless something else is in it or the disk is too small."""
    if folder.exists() and not folder.is_dir():
        raise TritapeError(f"{folder}: output must be a folder, not a file; give another name")
    if folder.is_dir():
        config = folder / "config.json"
        others = sorted(path.name for path in folder.iterdir() if path.name not in _FILES)
        if not others and any(folder.iterdir()) and not (config.is_file() and NOTICE in config.read_text()):
            others = [path.name for path in sorted(folder.iterdir())]
        if others:
            raise TritapeError(
                f"{folder}: folder must be empty or a random checkpoint, not hold {others[0]}; give another"
            )
    folder.mkdir(parents=True, exist_ok=True)
    free = shutil.disk_usage(folder).free
    if size > free:
        raise TritapeError(f"{folder}: disk must have {size:,} bytes free, not {free:,}; choose fewer layers")


def _header(config: ModelConfig, dtype: str, seed: int) -> tuple[bytes, int]:
    """The safetensors header, and the size of the whole file."""
    entries: dict[str, object] = {"__metadata__": {"format": "pt", "description": f"{NOTICE} (seed {seed})"}}
    offset = 0
    for name, shape in config.tensor_shapes():
        matrix = len(shape) == 2
        end = offset + math.prod(shape) * (2 if matrix else 4)
        entries[name] = {
            "dtype": DTYPES[dtype] if matrix else "F32",
            "shape": list(shape),
            "data_offsets": [offset, end],
        }
        offset = end
    text = json.dumps(entries, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    return len(text).to_bytes(8, "little") + text, 8 + len(text) + offset


def _draw(rng: np.random.Generator, name: str, shape: tuple[int, ...]) -> Iterator[NDArray[np.float32]]:
    """The numbers of one tensor in order, a chunk at a time."""
    mean, deviation = 0.0, 1.0
    if name == "model.embeddings.weight":
        deviation = 0.5
    elif len(shape) == 1:
        mean, deviation = 1.0, 0.1
    elif name != "model.lower_bounds":
        deviation = 2 / math.sqrt(shape[1])
    left = math.prod(shape)
    while left:
        values = rng.standard_normal(min(left, CHUNK), np.float32)
        values *= np.float32(deviation)
        values += np.float32(mean)
        yield values
        left -= len(values)


def _encode(values: NDArray[np.float32], dtype: str) -> NDArray[np.generic]:
    if dtype == "bfloat16":
        bits = values.view("<u4")  # to nearest, ties to even, as PyTorch rounds
        return ((bits + 0x7FFF + ((bits >> 16) & 1)) >> 16).astype("<u2")
    return values.astype("<f2" if dtype == "float16" else "<f4")


def _readme(config: ModelConfig, seed: int, dtype: str) -> str:
    return f"""# Random weights

This is not a trained model: every number was drawn by `tritape random-checkpoint` from seed {seed}. It writes no
sense; it has the shape and the statistics of an `hgrn_bit` model, to try sizes, speed and memory with.

| | |
|---|---|
| hidden size | {config.hidden_size} |
| intermediate size | {config.intermediate_size} |
| layers | {config.num_hidden_layers} |
| vocabulary | {config.vocab_size} |
| matrices | {dtype} |
"""
