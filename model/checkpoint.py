"""Checkpoints of the `hgrn_bit` architecture, read lazily from safetensors and validated as a whole.

Nothing here needs torch and nothing is unpickled: a safetensors file is an eight-byte length, a JSON header and raw
little-endian tensors. The tensors stay memory-mapped; each is converted when it is asked for, a million elements at a time, and
its pages are given back afterwards: the memory that a checkpoint takes is that of what its user keeps.
"""

from __future__ import annotations

import hashlib
import json
import math
import mmap
import os
import re
import shutil
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from tritape.base.errors import TritapeError
from tritape.base.files import map_file, release

# safetensors name -> NumPy type of the stored bits (BF16 is widened to float32 by `_as_float`)
_STORED = {"BF16": "<u2", "F16": "<f2", "F32": "<f4", "F64": "<f8"}
_INFINITY = {"BF16": 0x7F80, "F16": 0x7C00}  # codes of 16 bits are ordered by magnitude up to it
_DTYPE_NAMES = {"float16": "F16", "float32": "F32", "float64": "F64"}
_MAX_HEADER = 100_000_000  # bytes; the limit of the safetensors format
_CHUNK = 1 << 20  # elements converted at a time by whole-tensor passes
_CONV = re.compile(r"model\.layers\.\d+\.attn\.\w*conv")
MIN_WEIGHT_SCALE = 1e-5
"""Smallest weight scale; the released code clamps mean|W| to it, so that an all-zero matrix does not divide by zero."""


@dataclass(frozen=True)
class ModelConfig:
    """Shape of an `hgrn_bit` model. Source: config.json of the checkpoint, defaults of the released code.

    `intermediate_size` is resolved: null in the file means 256 * ceil(int(hidden * hidden_ratio * 2/3) / 256).
    """

    vocab_size: int
    hidden_size: int
    num_hidden_layers: int
    intermediate_size: int
    rms_norm_eps: float = 1e-6
    use_lower_bound: bool = True
    bos_token_id: int | None = None
    eos_token_id: int | None = None

    @classmethod
    def from_file(cls, path: str | Path) -> ModelConfig:
        """Read config.json. Raises TritapeError for a missing or malformed file or an unsupported variant."""
        return cls.from_dict(_read_json(Path(path)), str(path))

    @classmethod
    def from_dict(cls, raw: Mapping[str, Any], source: str) -> ModelConfig:
        """Check the entries of a parsed config.json; `source` is the file name that errors give."""

        def refuse(key: str, wanted: str, cure: str) -> TritapeError:
            value = repr(raw[key]) if key in raw else "missing"
            return TritapeError(f"{source}: {key} must be {wanted}, not {value}; {cure}")

        def size(key: str, default: int | None = None) -> int:
            value = raw.get(key, default)
            if not _is_int(value) or value < 1:
                raise refuse(key, "a positive integer", "take config.json from the checkpoint's repository")
            return value

        def flag(key: str, default: bool) -> bool:
            value = raw.get(key, default)
            if not isinstance(value, bool):
                raise refuse(key, "true or false", "correct it")
            return value

        if raw.get("model_type") != "hgrn_bit":
            raise refuse("model_type", "'hgrn_bit'", "use a MatMul-free LM checkpoint")
        if flag("use_short_conv", False):
            raise refuse("use_short_conv", "false", "short convolutions are not supported, use a model without them")
        if raw.get("hidden_act", "swish") not in ("swish", "silu"):
            raise refuse("hidden_act", "'swish' or 'silu'", "other activations are not supported")
        vocab, hidden, layers = size("vocab_size"), size("hidden_size"), size("num_hidden_layers")
        if raw.get("expand_ratio") is not None and size("expand_ratio") != 1:
            raise refuse("expand_ratio", "1", "expanded states are not supported, use a model without them")
        if raw.get("num_heads") is not None and hidden % size("num_heads"):
            raise refuse("num_heads", f"a divisor of hidden_size {hidden}", "correct it")
        if raw.get("intermediate_size") is None:
            ratio = 4 if raw.get("hidden_ratio") is None else raw["hidden_ratio"]
            if not _is_number_below(ratio, 1000) or int(hidden * ratio * 2 / 3) < 1:
                raise refuse("hidden_ratio", "a positive number below 1000", "set it or intermediate_size")
            intermediate = 256 * ((int(hidden * ratio * 2 / 3) + 255) // 256)
        else:
            intermediate = size("intermediate_size")
        eps = raw.get("rms_norm_eps", 1e-6)
        if not _is_number_below(eps, 1):
            raise refuse("rms_norm_eps", "a positive number below 1", "correct it")
        for key in ("bos_token_id", "eos_token_id"):
            token = raw.get(key)
            if token is not None and not (_is_int(token) and 0 <= token < vocab):
                raise refuse(key, f"null or an integer from 0 to {vocab - 1}", "correct it")
        return cls(
            vocab_size=vocab,
            hidden_size=hidden,
            num_hidden_layers=layers,
            intermediate_size=intermediate,
            rms_norm_eps=float(eps),
            use_lower_bound=flag("use_lower_bound", True),
            bos_token_id=raw.get("bos_token_id"),
            eos_token_id=raw.get("eos_token_id"),
        )

    def to_dict(self) -> dict[str, Any]:
        """Entries of a config.json that `from_file` reads back as this object and the released code accepts."""
        return {
            "architectures": ["HGRNBitForCausalLM"],
            "model_type": "hgrn_bit",
            "vocab_size": self.vocab_size,
            "hidden_size": self.hidden_size,
            "num_hidden_layers": self.num_hidden_layers,
            "intermediate_size": self.intermediate_size,
            "num_heads": 1,
            "expand_ratio": 1,
            "hidden_act": "swish",
            "rms_norm_eps": self.rms_norm_eps,
            "use_lower_bound": self.use_lower_bound,
            "use_short_conv": False,
            "tie_word_embeddings": False,
            "bos_token_id": self.bos_token_id,
            "eos_token_id": self.eos_token_id,
        }

    def tensor_shapes(self) -> Iterator[tuple[str, tuple[int, ...]]]:
        """Name and shape of every tensor that a checkpoint of this shape must hold."""
        hidden, intermediate = self.hidden_size, self.intermediate_size

        def bitlinear(prefix: str, rows: int, columns: int) -> Iterator[tuple[str, tuple[int, ...]]]:
            yield f"{prefix}.weight", (rows, columns)
            yield f"{prefix}.norm.weight", (columns,)

        yield "model.embeddings.weight", (self.vocab_size, hidden)
        if self.use_lower_bound:
            yield "model.lower_bounds", (self.num_hidden_layers, hidden)
        for layer in range(self.num_hidden_layers):
            prefix = f"model.layers.{layer}"
            yield f"{prefix}.attn_norm.weight", (hidden,)
            for projection in ("i_proj", "f_proj", "g_proj", "o_proj"):
                yield from bitlinear(f"{prefix}.attn.{projection}", hidden, hidden)
            yield f"{prefix}.attn.g_norm.weight", (hidden,)
            yield f"{prefix}.mlp_norm.weight", (hidden,)
            yield from bitlinear(f"{prefix}.mlp.gate_proj", 2 * intermediate, hidden)
            yield from bitlinear(f"{prefix}.mlp.down_proj", hidden, intermediate)
        yield "model.norm.weight", (hidden,)
        yield from bitlinear("lm_head", self.vocab_size, hidden)


@dataclass(frozen=True, eq=False)
class TernaryLinear:
    """A BitLinear, quantised: y = (weights @ q) * scale / activation scale.

    weights: int8 [out, in] of -1, 0, +1; scale: mean|W| of the latent weights; gain: float64 [in] of its own RMSNorm.
    """

    weights: np.ndarray
    scale: float
    gain: np.ndarray


@dataclass(frozen=True, eq=False)
class _Stored:
    """A tensor as it lies in a file: `bits` has the tensor's shape and the NumPy type of `_STORED[dtype]`.

    pages: the mapping that `bits` is a view of, None in memory; offset: where in it.
    """

    dtype: str
    bits: np.ndarray
    file: str
    pages: mmap.mmap | None = None
    offset: int = 0

    def release(self) -> None:
        """Let the pages of a mapped tensor go; they come back from the file, or its cache, when touched again."""
        if self.pages is not None and self.bits.nbytes:
            release(self.pages, self.offset, self.bits.nbytes)


class Checkpoint:
    """A validated model: every tensor of `config.tensor_shapes()` is there, well shaped and finite.

    config: ModelConfig; path: the folder, or None for a model made in memory.
    Made by `load_checkpoint`, `Checkpoint.from_arrays` or `random_checkpoint`.
    """

    def __init__(
        self,
        config: ModelConfig,
        tensors: Mapping[str, _Stored],
        path: Path | None = None,
        files: tuple[Path, ...] = (),
    ) -> None:
        self.config = config
        self.path = path
        self._tensors = tensors
        self._files = files
        self._scales: dict[str, float] = {}
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
            stored[name] = _Stored(dtype, np.asarray(array, dtype=_STORED[dtype]), "in memory")
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
        """Hex SHA-256 of the safetensors bytes, shards in name order (in memory: of what `save_checkpoint` writes)."""
        digest = hashlib.sha256()
        if not self._files:
            for piece in _serialise(self._tensors):
                digest.update(piece)
        for path in self._files:
            with path.open("rb") as stream:
                while piece := stream.read(1 << 20):
                    digest.update(piece)
        return digest.hexdigest()

    def tensor(self, name: str) -> np.ndarray:
        """One tensor as a new array: float64 when stored as F64, else float32. Raises TritapeError when missing."""
        stored = self._stored(name)
        values = _as_float(stored)
        stored.release()
        return values

    def row_blocks(self, name: str) -> Iterator[tuple[int, np.ndarray]]:
        """(first row, rows) of one tensor, as `tensor` gives them, about a million elements at a time."""
        stored = self._stored(name)
        yield from _row_blocks(stored)
        stored.release()

    def bitlinear(self, prefix: str) -> TernaryLinear:
        """Quantise the BitLinear called `prefix`, such as `model.layers.0.attn.i_proj` or `lm_head`.

        scale = max(mean|W|, 1e-5), weights = clip(round(W / scale), -1, 1), both in float64, half away from zero.
        """
        return TernaryLinear(self.ternary(prefix), self.scale(prefix), self.gain(prefix))

    def scale(self, prefix: str) -> float:
        """The scale of the BitLinear called `prefix`; worked out once."""
        if prefix not in self._scales:
            stored = self._stored(f"{prefix}.weight")
            total = sum(float(np.abs(part, dtype=np.float64).sum()) for _, part in _row_blocks(stored))
            stored.release()
            self._scales[prefix] = max(total / stored.bits.size, MIN_WEIGHT_SCALE)
        return self._scales[prefix]

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
            codes = _as_float(
                _Stored(
                    stored.dtype, np.arange(_INFINITY[stored.dtype] + 1, dtype="<u2").view(_STORED[stored.dtype]), ""
                )
            )
            least = int(np.argmax(codes.astype(np.float64) / scale >= 0.5))
            for start, bits in _bit_blocks(stored):
                code = bits.view("<u2")
                sign = 1 - 2 * (code >> 15).astype(np.int8)
                np.multiply((code & 0x7FFF) >= least, sign, out=weights[start : start + len(bits)])
        else:
            for start, part in _row_blocks(stored):
                ratio = part.astype(np.float64) / scale
                weights[start : start + len(part)] = np.sign(ratio) * (np.abs(ratio) >= 0.5)
        stored.release()
        return weights

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

    def _stored(self, name: str) -> _Stored:
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
            if stored.dtype not in _STORED:
                raise TritapeError(
                    f"{stored.file}: dtype of tensor {name} must be one of {', '.join(_STORED)}, not {stored.dtype}; "
                    "save the checkpoint in one of them"
                )
            if stored.bits.shape != shape:
                raise TritapeError(
                    f"{stored.file}: shape of tensor {name} must be {list(shape)}, not {list(stored.bits.shape)}; "
                    "check config.json"
                )
            for _, part in _row_blocks(stored):
                finite = np.isfinite(part)
                if not finite.all():
                    raise TritapeError(
                        f"{stored.file}: values of tensor {name} must be finite, not {part[~finite][0]}; "
                        "take an undamaged checkpoint"
                    )
            stored.release()


def load_checkpoint(path: str | Path) -> Checkpoint:
    """Read a Hugging Face `hgrn_bit` folder: config.json with model.safetensors or model.safetensors.index.json.

    Every tensor is checked here, so that nothing fails later. Raises TritapeError naming the file, the tensor and the
    cure.
    """
    folder = Path(path)
    if not folder.is_dir():
        kind = "a file" if folder.exists() else "missing"
        raise TritapeError(f"{folder}: checkpoint must be a folder, not {kind}; give the folder that holds config.json")
    raw = _read_json(folder / "config.json")
    config = ModelConfig.from_dict(raw, str(folder / "config.json"))
    files = _safetensors_files(folder)
    tensors: dict[str, _Stored] = {}
    for file in files:
        tensors.update(_read_safetensors(file))
    if raw.get("tie_word_embeddings") and "lm_head.weight" not in tensors:
        raise TritapeError(
            f"{folder / 'config.json'}: tie_word_embeddings must be false, not {raw['tie_word_embeddings']!r}; "
            "tied embeddings are not supported, store lm_head.weight"
        )
    return Checkpoint(config, tensors, folder, files)


def save_checkpoint(checkpoint: Checkpoint, folder: str | Path) -> None:
    """Write config.json, model.safetensors and, if there is one, tokenizer.json, each under a temporary name first."""
    target = Path(folder)
    target.mkdir(parents=True, exist_ok=True)
    config = json.dumps(checkpoint.config.to_dict(), indent=1) + "\n"
    _write(target / "config.json", iter([config.encode()]))
    _write(target / "model.safetensors", _serialise(checkpoint._tensors))
    tokenizer = checkpoint.tokenizer_path
    if tokenizer is not None and tokenizer.parent.resolve() != target.resolve():
        shutil.copyfile(tokenizer, target / "tokenizer.json")


def random_checkpoint(config: ModelConfig, seed: int) -> Checkpoint:
    """A model of the given shape with random weights whose statistics resemble trained ones.

    About a third of the ternary weights is zero, pre-activations deviate by about 1.3, gains lie around 1.
    """
    rng = np.random.default_rng(seed)
    tensors: dict[str, np.ndarray] = {}
    for name, shape in config.tensor_shapes():
        values = rng.standard_normal(shape, np.float32)
        if name == "model.embeddings.weight":
            values *= 0.5
        elif name != "model.lower_bounds" and len(shape) == 2:
            values = (values * np.float32(2 / math.sqrt(shape[1]))).astype(np.float16)
        elif len(shape) == 1:
            values = 1 + np.float32(0.1) * values
        tensors[name] = values
    return Checkpoint.from_arrays(config, tensors)


def _is_int(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _is_number_below(value: object, limit: float) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and 0 < value < limit


def _as_float(stored: _Stored) -> np.ndarray:
    bits = stored.bits
    if stored.dtype == "BF16":
        return (bits.astype(np.uint32) << 16).view(np.float32)
    return bits.astype(np.float64 if stored.dtype == "F64" else np.float32)


def _row_blocks(stored: _Stored) -> Iterator[tuple[int, np.ndarray]]:
    """The tensor as float blocks of about `_CHUNK` elements, each with its first row, so that big ones stay lazy."""
    for start, bits in _bit_blocks(stored):
        yield start, _as_float(_Stored(stored.dtype, bits, stored.file))


def _bit_blocks(stored: _Stored) -> Iterator[tuple[int, np.ndarray]]:
    rows = len(stored.bits)
    step = max(1, _CHUNK * rows // stored.bits.size)
    for start in range(0, rows, step):
        yield start, stored.bits[start : start + step]


def _read_json(path: Path) -> dict[str, Any]:
    try:
        value = json.loads(path.read_bytes())
    except FileNotFoundError:
        raise TritapeError(
            f"{path}: file must exist, not be missing; take it from the checkpoint's repository"
        ) from None
    except OSError as error:
        raise TritapeError(f"{path}: file must be readable, not {error.strerror}; check its permissions") from None
    except (ValueError, RecursionError):
        raise TritapeError(f"{path}: file must be JSON, not damaged text; download it again") from None
    if not isinstance(value, dict):
        raise TritapeError(f"{path}: file must be a JSON object, not {type(value).__name__}; download it again")
    return value


def _safetensors_files(folder: Path) -> tuple[Path, ...]:
    """The safetensors files of a folder in name order: the single file, or the shards that the index names."""
    single, index = folder / "model.safetensors", folder / "model.safetensors.index.json"
    if single.is_file():
        return (single,)
    if not index.is_file():
        raise TritapeError(
            f"{folder}: folder must hold model.safetensors or model.safetensors.index.json, not neither; "
            "save the checkpoint with safe_serialization=True"
        )
    weight_map = _read_json(index).get("weight_map")
    if not isinstance(weight_map, dict) or not all(isinstance(shard, str) for shard in weight_map.values()):
        raise TritapeError(
            f"{index}: weight_map must map tensors to file names, not {type(weight_map).__name__}; download it again"
        )
    shards = sorted(set(weight_map.values()))
    for shard in shards:
        if Path(shard).name != shard:
            raise TritapeError(f"{index}: shard must be a plain file name, not {shard!r}; correct the index")
        if not (folder / shard).is_file():
            raise TritapeError(f"{index}: shard {shard} must be in the folder, not missing; download it")
    return tuple(folder / shard for shard in shards)


def _read_safetensors(path: Path) -> dict[str, _Stored]:
    """Map one file; tensors are views of it. Tensors of other dtypes are kept as a placeholder for `_validate`."""

    def refuse(what: str) -> TritapeError:
        return TritapeError(f"{path}: {what}; download the file again")

    size = path.stat().st_size
    if size < 8:
        raise refuse(f"file must be at least 8 bytes, not {size}")
    try:
        pages = map_file(path)
    except OSError as error:
        raise TritapeError(f"{path}: file must be readable, not {error.strerror}; check its permissions") from None
    data = np.frombuffer(pages, np.uint8)
    length = int.from_bytes(data[:8].tobytes(), "little")
    if length > min(size - 8, _MAX_HEADER):
        raise refuse(f"header must be at most {min(size - 8, _MAX_HEADER)} bytes, not {length}")
    try:
        header = json.loads(data[8 : 8 + length].tobytes())
    except (ValueError, RecursionError):
        raise refuse("header must be JSON, not damaged text") from None
    if not isinstance(header, dict):
        raise refuse(f"header must be a JSON object, not {type(header).__name__}")
    body = data[8 + length :]
    tensors = {}
    for name, entry in header.items():
        if name == "__metadata__":
            continue
        try:
            dtype, shape, (begin, end) = entry["dtype"], tuple(entry["shape"]), entry["data_offsets"]
        except (KeyError, TypeError, ValueError):
            raise refuse(
                f"header entry of tensor {name} must give dtype, shape and data_offsets, not {entry!r:.80}"
            ) from None
        if not (isinstance(dtype, str) and all(_is_int(n) and n >= 0 for n in (*shape, begin, end))):
            raise refuse(f"header entry of tensor {name} must give dtype, shape and data_offsets, not {entry!r:.80}")
        if begin > end or len(shape) > 8:
            raise refuse(f"header entry of tensor {name} must give dtype, shape and data_offsets, not {entry!r:.80}")
        if end > len(body):
            raise refuse(f"data of tensor {name} must end within {len(body)} bytes, not at {end} (truncated file)")
        if dtype not in _STORED:
            tensors[name] = _Stored(dtype, body[:0], str(path))
            continue
        wanted = math.prod(shape) * np.dtype(_STORED[dtype]).itemsize
        if end - begin != wanted:
            raise refuse(f"data of tensor {name} must be {wanted} bytes, not {end - begin}")
        bits = np.frombuffer(body[begin:end], _STORED[dtype]).reshape(shape) if wanted else np.empty(0, _STORED[dtype])
        tensors[name] = _Stored(dtype, bits, str(path), pages, 8 + length + begin)
    return tensors


def _serialise(tensors: Mapping[str, _Stored]) -> Iterator[bytes]:
    """The bytes of a safetensors file, tensors in name order; those that cannot be kept (other dtypes) are left out."""
    kept = {name: tensors[name] for name in sorted(tensors) if tensors[name].dtype in _STORED}
    header: dict[str, Any] = {"__metadata__": {"format": "pt"}}
    offset = 0
    for name, stored in kept.items():
        end = offset + stored.bits.nbytes
        header[name] = {"dtype": stored.dtype, "shape": list(stored.bits.shape), "data_offsets": [offset, end]}
        offset = end
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    yield len(text).to_bytes(8, "little") + text
    for stored in kept.values():
        flat = stored.bits.reshape(-1)
        for start in range(0, len(flat), _CHUNK):
            yield flat[start : start + _CHUNK].tobytes()
        stored.release()


def _write(path: Path, pieces: Iterator[bytes]) -> None:
    temporary = path.with_name(path.name + ".tmp")
    try:
        with temporary.open("wb") as stream:
            for piece in pieces:
                stream.write(piece)
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)
