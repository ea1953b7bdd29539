"""Checkpoints of the `hgrn_bit` architecture, read lazily from safetensors or pickled tensors and validated as a whole.

The tensors stay memory-mapped; each is converted when it is asked for, a million elements at a time, and its pages are given
back afterwards: the memory that a checkpoint takes is that of what its user keeps.
"""

from __future__ import annotations

import copy
import hashlib
import json
import math
import re
import shutil
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from tritape.base.errors import TritapeError
from tritape.base.files import replacing
from tritape.model.codes import WeightCode
from tritape.model.config import ModelConfig, read_json
from tritape.model.stored import STORED, Stored, as_float, bit_blocks, row_blocks, serialise
from tritape.model.weights import EMBEDDINGS, HEAD, check_folder, read_weights

_INFINITY = {"BF16": 0x7F80, "F16": 0x7C00}  # codes of 16 bits are ordered by magnitude up to it
_DTYPE_NAMES = {"float16": "F16", "float32": "F32", "float64": "F64"}
_CONV = re.compile(r"model\.layers\.\d+\.attn\.\w*conv")
MIN_WEIGHT_SCALE = 1e-5
"""Smallest weight scale; the released code clamps mean|W| to it, so that an all-zero matrix does not divide by zero."""


@dataclass(frozen=True, eq=False)
class TernaryLinear:
    """A BitLinear, quantised: y = (weights @ q) * scale / activation scale.

    weights: int8 [out, in] of -1, 0, +1; scale: mean|W| of the latent weights; gain: float64 [in] of its own RMSNorm.
    """

    weights: np.ndarray
    scale: float
    gain: np.ndarray


class _Ternary:
    """Whether the magnitudes of a matrix are zero or one `value`, with some of both; its `value` is None when not."""

    def __init__(self) -> None:
        self._seen = 0.0
        self._zeros = False
        self._other = False

    def add(self, magnitudes: np.ndarray) -> None:
        """Take note of a part of the matrix; latent weights are told by its first few."""
        for part in (magnitudes.reshape(-1)[:64], magnitudes):
            if self._other or not part.size:
                return
            zero = part == 0
            self._seen = self._seen or float(part.max())
            self._other = not bool((zero | (part == self._seen)).all())
            self._zeros |= bool(zero.any())

    @property
    def value(self) -> float | None:
        """The one magnitude, or None."""
        return self._seen if self._seen and self._zeros and not self._other else None


class Checkpoint:
    """A validated model: every tensor of `config.tensor_shapes()` is there, well shaped and finite.

    config: ModelConfig; path: the folder, or None for a model made in memory; own_scale: see `scale`.
    Made by `load_checkpoint`, `Checkpoint.from_arrays` or `random_checkpoint`.
    """

    def __init__(
        self,
        config: ModelConfig,
        tensors: Mapping[str, Stored],
        path: Path | None = None,
        files: tuple[Path, ...] = (),
        own_scale: bool = False,
    ) -> None:
        self.config = config
        self.path = path
        self._tensors = tensors
        self._files = files
        self._scales: dict[str, float] = {}
        self._ternary: set[str] = set()
        self.own_scale = own_scale
        self._validate()

    @classmethod
    def from_arrays(cls, config: ModelConfig, tensors: Mapping[str, np.ndarray]) -> Checkpoint:
        """A checkpoint from float16, float32 or float64 arrays. Raises TritapeError as `load_checkpoint` does."""
        stored = {}
        for name, array in tensors.items():
            dtype = _DTYPE_NAMES.get(array.dtype.name)
            if dtype is None:
                raise TritapeError(
                    f"in memory: dtype of tensor {name} must be float16, float32 or float64, not {array.dtype.name}; "
                    "convert it with astype"
                )
            stored[name] = Stored(dtype, np.asarray(array, dtype=STORED[dtype]), "in memory")
        return cls(config, stored)

    @property
    def name(self) -> str:
        """What errors and reports call this model: the folder, or `in memory`."""
        return "in memory" if self.path is None else str(self.path)

    @property
    def tokenizer_path(self) -> Path | None:
        """The folder's tokenizer.json, or None when it has none."""
        path = None if self.path is None else self.path / "tokenizer.json"
        return path if path is not None and path.is_file() else None

    @cached_property
    def sha256(self) -> str:
        """Hex SHA-256 of what `save_checkpoint` writes: the same for a model whatever kind of files it came in."""
        digest = hashlib.sha256()
        for piece in serialise(self._tensors):
            digest.update(piece)
        return digest.hexdigest()

    def tensor(self, name: str) -> np.ndarray:
        """One tensor as a new array: float64 when stored as F64, else float32. Raises TritapeError when missing."""
        stored = self._stored(name)
        values = as_float(stored)
        stored.release()
        return values

    def row_blocks(self, name: str) -> Iterator[tuple[int, np.ndarray]]:
        """(first row, rows) of one tensor, as `tensor` gives them, about a million elements at a time."""
        stored = self._stored(name)
        yield from row_blocks(stored)
        stored.release()

    def bitlinear(self, prefix: str) -> TernaryLinear:
        """Quantise the BitLinear called `prefix`, such as `model.layers.0.attn.i_proj` or `lm_head`.

        scale = max(mean|W|, 1e-5), weights = clip(round(W / scale), -1, 1), both in float64, half away from zero.
        """
        return TernaryLinear(self.ternary(prefix), self.scale(prefix), self.gain(prefix))

    def scale(self, prefix: str) -> float:
        """The scale of the BitLinear called `prefix`; worked out once.

        Weights that were made ternary before, all of them -s, 0 or s, have their mean magnitude too, as in the released code:
        small releases are made for that. Where s is meant, `own_scale` says so, and their mean would shrink them again.
        """
        if prefix not in self._scales:
            stored = self._stored(f"{prefix}.weight")
            total, ternary = 0.0, _Ternary()
            for _, part in row_blocks(stored):
                magnitudes = np.abs(part, dtype=np.float64)
                total += float(magnitudes.sum())
                ternary.add(magnitudes)
            stored.release()
            self._scales[prefix] = max(total / stored.bits.size, MIN_WEIGHT_SCALE)
            if ternary.value is not None:
                self._ternary.add(prefix)
                if self.own_scale:
                    self._scales[prefix] = ternary.value
        return self._scales[prefix]

    @property
    def already_ternary(self) -> frozenset[str]:
        """The BitLinears, of those whose scale was asked for, that were made ternary before."""
        return frozenset(self._ternary)

    def with_own_scale(self, own_scale: bool) -> Checkpoint:
        """The same tensors, weights that were made ternary before read the other way."""
        other = copy.copy(self)
        other.own_scale, other._scales, other._ternary = own_scale, {}, set()
        return other

    def gain(self, prefix: str) -> np.ndarray:
        """The gain of the BitLinear's own norm, float64 [in]."""
        return self.tensor(f"{prefix}.norm.weight").astype(np.float64)

    def ternary(self, prefix: str) -> np.ndarray:
        """The weights of the BitLinear called `prefix`, int8 [out, in]."""
        stored = self._stored(f"{prefix}.weight")
        scale = self.scale(prefix)
        weights = np.empty(stored.bits.shape, np.int8)
        if stored.dtype in _INFINITY:
            # Magnitudes are ordered as their codes are, so one comparison of codes decides as the division would.
            codes = as_float(
                Stored(stored.dtype, np.arange(_INFINITY[stored.dtype] + 1, dtype="<u2").view(STORED[stored.dtype]), "")
            )
            least = int(np.argmax(codes.astype(np.float64) / scale >= 0.5))
            for start, bits in bit_blocks(stored):
                code = bits.view("<u2")
                sign = 1 - 2 * (code >> 15).astype(np.int8)
                np.multiply((code & 0x7FFF) >= least, sign, out=weights[start : start + len(bits)])
        else:
            for start, part in row_blocks(stored):
                ratio = part.astype(np.float64) / scale
                weights[start : start + len(part)] = np.sign(ratio) * (np.abs(ratio) >= 0.5)
        stored.release()
        return weights

    def check_code(self, code: WeightCode) -> None:
        """Raise TritapeError by tensor, row and column unless the weights of every BitLinear have that code."""
        names = {name for name, _ in self.config.tensor_shapes()}
        prefixes = [name.removesuffix(".weight") for name in sorted(names)]
        for prefix in prefixes:
            if f"{prefix}.norm.weight" in names:
                code.check(f"{prefix}.weight", self.ternary(prefix))

    def lower_bounds(self) -> np.ndarray:
        """Forget-gate bounds, float64 [layers, hidden]: cumsum(softmax) - softmax[0]; zeros without use_lower_bound.

        Row 0 is zero: layer 0 has no bound.
        """
        if not self.config.use_lower_bound:
            return np.zeros((self.config.num_hidden_layers, self.config.hidden_size))
        raw = self.tensor("model.lower_bounds").astype(np.float64)
        share = np.exp(raw - raw.max(axis=0))
        share /= share.sum(axis=0)
        return np.cumsum(share, axis=0) - share[0]

    def _stored(self, name: str) -> Stored:
        if name not in self._tensors:
            raise TritapeError(f"{self.name}: tensor {name} must be in the checkpoint, not missing; check config.json")
        return self._tensors[name]

    def _validate(self) -> None:
        for name, stored in self._tensors.items():
            if _CONV.match(name):
                raise TritapeError(
                    f"{stored.file}: tensor {name} must be absent, not present; "
                    "short convolutions are not supported, use a model without them"
                )
        for name, shape in self.config.tensor_shapes():
            stored = self._stored(name)
            if stored.dtype not in STORED:
                raise TritapeError(
                    f"{stored.file}: dtype of tensor {name} must be one of {', '.join(STORED)}, not {stored.dtype}; "
                    "save the checkpoint in one of them"
                )
            if stored.bits.shape != shape:
                raise TritapeError(
                    f"{stored.file}: shape of tensor {name} must be {list(shape)}, not {list(stored.bits.shape)}; "
                    "check config.json"
                )
            for _, part in row_blocks(stored):
                finite = np.isfinite(part)
                if not finite.all():
                    raise TritapeError(
                        f"{stored.file}: values of tensor {name} must be finite, not {part[~finite][0]}; "
                        "take an undamaged checkpoint"
                    )
            stored.release()


def load_checkpoint(path: str | Path) -> Checkpoint:
    """Read a Hugging Face `hgrn_bit` folder: config.json with model.safetensors or pytorch_model.bin, whole or in parts.

    Every tensor is checked here, so that nothing fails later. With `tie_word_embeddings` a head that is not stored has the
    embedding's weights, and the other way round. `ternary_scale` of config.json, `mean` (default) or `own`, says how to read
    weights that were made ternary before. Raises TritapeError naming the file, the tensor and the cure.
    """
    folder = Path(path)
    check_folder(folder)
    raw = read_json(folder / "config.json")
    config = ModelConfig.from_dict(raw, str(folder / "config.json"))
    tensors, files = read_weights(folder)
    if raw.get("tie_word_embeddings"):
        for missing, other in ((HEAD, EMBEDDINGS), (EMBEDDINGS, HEAD)):
            if missing not in tensors and other in tensors:
                tensors[missing] = tensors[other]
    reading = raw.get("ternary_scale", "mean")
    if reading not in ("mean", "own"):
        raise TritapeError(
            f"{folder / 'config.json'}: ternary_scale must be 'mean' or 'own', not {reading!r}; correct it"
        )
    return Checkpoint(config, tensors, folder, files, reading == "own")


def save_checkpoint(checkpoint: Checkpoint, folder: str | Path) -> None:
    """Write config.json, model.safetensors and, if there is one, tokenizer.json, each under a temporary name first."""
    target = Path(folder)
    target.mkdir(parents=True, exist_ok=True)
    entries = checkpoint.config.to_dict() | ({"ternary_scale": "own"} if checkpoint.own_scale else {})
    config = json.dumps(entries, indent=1) + "\n"
    _write(target / "config.json", iter([config.encode()]))
    _write(target / "model.safetensors", serialise(checkpoint._tensors))
    tokenizer = checkpoint.tokenizer_path
    if tokenizer is not None and tokenizer.parent.resolve() != target.resolve():
        shutil.copyfile(tokenizer, target / "tokenizer.json")


def random_checkpoint(config: ModelConfig, seed: int, *, sparse4: bool = False) -> Checkpoint:
    """A model of the given shape with random weights whose statistics resemble trained ones.

    About a third of the ternary weights is zero, or with `sparse4` the smallest of each four; pre-activations deviate by about
    1.3, gains lie around 1.
    """
    rng = np.random.default_rng(seed)
    tensors: dict[str, np.ndarray] = {}
    for name, shape in config.tensor_shapes():
        values = rng.standard_normal(shape, np.float32)
        if name == "model.embeddings.weight":
            values *= 0.5
        elif name != "model.lower_bounds" and len(shape) == 2:
            if sparse4:
                values = _smallest_of_four_zero(values)
            values = (values * np.float32(2 / math.sqrt(shape[1]))).astype(np.float16)
        elif len(shape) == 1:
            values = 1 + np.float32(0.1) * values
        tensors[name] = values
    return Checkpoint.from_arrays(config, tensors)


def _smallest_of_four_zero(values: NDArray[np.float32]) -> NDArray[np.float32]:
    """Signs of a matrix [rows, K], but zero for the smallest of each four."""
    rows, columns = values.shape
    fours = np.ones((rows, -(-columns // 4) * 4), np.float32)
    fours[:, :columns] = values
    fours = fours.reshape(rows, -1, 4)
    smallest = np.abs(fours).argmin(axis=2)[..., None]
    fours = np.sign(fours)
    np.put_along_axis(fours, smallest, 0, axis=2)
    return fours.reshape(rows, -1)[:, :columns]


def _write(path: Path, pieces: Iterator[bytes]) -> None:
    with replacing(path) as stream:
        for piece in pieces:
            stream.write(piece)
