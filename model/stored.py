"""Tensors as they lie in safetensors files: mapped, converted to floats a piece at a time, and written back.

Nothing here needs torch and nothing is unpickled: a safetensors file is an eight-byte length, a JSON header and raw
little-endian tensors.
"""

from __future__ import annotations

import json
import math
import mmap
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from tritape.base.errors import TritapeError
from tritape.base.files import map_file, release
from tritape.model.config import is_int

STORED = {"BF16": "<u2", "F16": "<f2", "F32": "<f4", "F64": "<f8"}
"""safetensors name of each type that a tensor may have: NumPy type of the stored bits (BF16 is widened to float32)."""
_MAX_HEADER = 100_000_000  # bytes; the limit of the safetensors format
_CHUNK = 1 << 20  # elements converted at a time by whole-tensor passes


@dataclass(frozen=True, eq=False)
class Stored:
    """A tensor as it lies in a file: `bits` has the tensor's shape and the NumPy type of `STORED[dtype]`.

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


def as_float(stored: Stored) -> np.ndarray:
    """All of a tensor: float64 when stored as F64, else float32."""
    bits = stored.bits
    if stored.dtype == "BF16":
        return (bits.astype(np.uint32) << 16).view(np.float32)
    return bits.astype(np.float64 if stored.dtype == "F64" else np.float32)


def row_blocks(stored: Stored) -> Iterator[tuple[int, np.ndarray]]:
    """The tensor as float blocks of about `_CHUNK` elements, each with its first row, so that big ones stay lazy."""
    for start, bits in bit_blocks(stored):
        yield start, as_float(Stored(stored.dtype, bits, stored.file))


def bit_blocks(stored: Stored) -> Iterator[tuple[int, np.ndarray]]:
    """The same blocks as stored bits."""
    rows = len(stored.bits)
    step = max(1, _CHUNK * rows // stored.bits.size)
    for start in range(0, rows, step):
        yield start, stored.bits[start : start + step]


def read_safetensors(path: Path) -> dict[str, Stored]:
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
        if not (isinstance(dtype, str) and all(is_int(n) and n >= 0 for n in (*shape, begin, end))):
            raise refuse(f"header entry of tensor {name} must give dtype, shape and data_offsets, not {entry!r:.80}")
        if begin > end or len(shape) > 8:
            raise refuse(f"header entry of tensor {name} must give dtype, shape and data_offsets, not {entry!r:.80}")
        if end > len(body):
            raise refuse(f"data of tensor {name} must end within {len(body)} bytes, not at {end} (truncated file)")
        if dtype not in STORED:
            tensors[name] = Stored(dtype, body[:0], str(path))
            continue
        wanted = math.prod(shape) * np.dtype(STORED[dtype]).itemsize
        if end - begin != wanted:
            raise refuse(f"data of tensor {name} must be {wanted} bytes, not {end - begin}")
        bits = np.frombuffer(body[begin:end], STORED[dtype]).reshape(shape) if wanted else np.empty(0, STORED[dtype])
        tensors[name] = Stored(dtype, bits, str(path), pages, 8 + length + begin)
    return tensors


def serialise(tensors: Mapping[str, Stored]) -> Iterator[bytes]:
    """The bytes of a safetensors file, tensors in name order; those that cannot be kept (other dtypes) are left out."""
    kept = {name: tensors[name] for name in sorted(tensors) if tensors[name].dtype in STORED}
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
