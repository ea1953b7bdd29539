"""Tensors of a `pytorch_model.bin` without torch and without running what is in it, for checkpoints that come that way.

Such a file is a ZIP archive of raw tensors with a pickle that says where each lies (torch 1.6 and later). Unpickling may call
anything, so here it may name only what builds a dictionary of tensors; anything else is refused by its name.
"""

from __future__ import annotations

import collections
import io
import math
import mmap
import pickle
import struct
import zipfile
import zlib
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from tritape.base.errors import TritapeError
from tritape.base.files import map_file
from tritape.model.config import is_int
from tritape.model.stored import STORED, Stored

_STORAGES = {
    "FloatStorage": ("F32", 4),
    "HalfStorage": ("F16", 2),
    "BFloat16Storage": ("BF16", 2),
    "DoubleStorage": ("F64", 8),
    "LongStorage": ("I64", 8),
    "IntStorage": ("I32", 4),
    "ShortStorage": ("I16", 2),
    "CharStorage": ("I8", 1),
    "ByteStorage": ("U8", 1),
    "BoolStorage": ("BOOL", 1),
}
_LOCAL_HEADER = struct.Struct("<4s22xHH")  # signature; lengths of name and extra field
_MAX_PICKLE = 100_000_000  # bytes, as a safetensors header has at most
_MAX_DIMENSIONS = 8
_ZIP_ERRORS = (zipfile.BadZipFile, zlib.error, struct.error, OSError, EOFError, ValueError, OverflowError, RuntimeError)
"""What `zipfile` raises for damaged archives; NotImplementedError is a RuntimeError."""
_NESTED = ("state_dict", "model_state_dict", "model", "module")
"""Keys that training programs put the tensors behind."""
CURE = "save the model with safetensors, or only its state_dict"


# What a pickle can get hold of has no attributes that it could set.


class _StorageType(NamedTuple):
    dtype: str
    item: int


class _Storage(NamedTuple):
    """A run of elements: their type, the entry of the archive that holds them, and how many."""

    type: _StorageType
    entry: str
    numel: int


class _Tensor(NamedTuple):
    """A view of a storage, in elements."""

    storage: _Storage
    offset: int
    shape: tuple[int, ...]
    stride: tuple[int, ...]


def read_pickled(path: Path) -> dict[str, Stored]:
    """Map one file; tensors are views of it, in any layout. Tensors of types that no model has are kept as placeholders.

    Raises TritapeError for a file of another kind, a damaged one, and one that holds anything but tensors.
    """
    with path.open("rb") as stream:
        if stream.read(2) in (b"\x80\x02", b"\x80\x03", b"\x80\x04", b"\x80\x05"):
            raise TritapeError(
                f"{path}: file must be a ZIP archive as torch 1.6 and later write it, not one of the legacy format; "
                "load it with torch and save it again"
            )
    try:
        with zipfile.ZipFile(path) as archive:
            return _read(path, archive)
    except TritapeError:
        raise
    except _ZIP_ERRORS as error:
        raise TritapeError(f"{path}: file must be a ZIP archive, not damaged ({error}); download it again") from None


def _read(path: Path, archive: zipfile.ZipFile) -> dict[str, Stored]:
    entries = {info.filename: info for info in archive.infolist()}
    found = [name for name in entries if name.endswith("/data.pkl")]
    if len(found) != 1:
        raise TritapeError(
            f"{path}: archive must hold one data.pkl, as torch writes it, not {len(found)}; download the file again"
        )
    root = found[0].removesuffix("data.pkl")
    order = archive.read(root + "byteorder") if root + "byteorder" in entries else b"little"
    if order != b"little":
        raise TritapeError(f"{path}: byte order must be little, not {order.decode(errors='replace')!r}; {CURE}")
    if entries[found[0]].file_size > _MAX_PICKLE:
        raise TritapeError(
            f"{path}: data.pkl must have at most {_MAX_PICKLE} bytes, not {entries[found[0]].file_size}; {CURE}"
        )
    content = _unpickle(path, archive.read(found[0]))
    pages = map_file(path)
    tensors = {}
    for name, tensor in _tensors(path, content).items():
        tensors[name] = _stored(path, pages, entries, root, name, tensor)
    return tensors


def _unpickle(path: Path, data: bytes) -> Any:
    try:
        return _Unpickler(path, data).load()
    except TritapeError:
        raise
    except Exception as error:  # a damaged pickle can fail in any way
        why = f"{type(error).__name__}: {error}"
        raise TritapeError(
            f"{path}: data.pkl must be a pickle of tensors, not damaged ({why}); download it again"
        ) from None


class _Unpickler(pickle.Unpickler):
    """Knows dictionaries, tensors and their storages, none of which runs anything."""

    def __init__(self, path: Path, data: bytes) -> None:
        super().__init__(io.BytesIO(data), encoding="utf-8")
        self._path = path

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) == ("collections", "OrderedDict"):
            return collections.OrderedDict
        if (module, name) == ("torch._utils", "_rebuild_tensor_v2"):
            return _RebuildTensor()
        if (module, name) == ("torch._utils", "_rebuild_parameter"):
            return _RebuildParameter()
        if module in ("torch", "torch.storage") and name in _STORAGES:
            return _StorageType(*_STORAGES[name])
        raise TritapeError(
            f"{self._path}: file must hold tensors only, not {module}.{name}, which could run anything; "
            f"do not load it with torch either unless you trust its author, or {CURE}"
        )

    def persistent_load(self, pid: Any) -> _Storage:
        kind, storage_type, key, _location, numel = pid  # ValueError and TypeError are for `_unpickle`
        if kind != "storage" or not isinstance(storage_type, _StorageType) or not isinstance(key, str):
            raise ValueError(f"storage {pid!r:.80}")
        if not is_int(numel) or numel < 0:
            raise ValueError(f"storage of {numel!r:.80} elements")
        return _Storage(storage_type, key, numel)


class _RebuildTensor:
    """In the place of `torch._utils._rebuild_tensor_v2`."""

    __slots__ = ()

    def __call__(self, storage: Any, offset: Any, shape: Any, stride: Any, *_rest: Any) -> _Tensor:
        if not isinstance(storage, _Storage) or not isinstance(shape, tuple) or not isinstance(stride, tuple):
            raise ValueError("a tensor must have a storage, sizes and strides")
        if not all(is_int(size) and size >= 0 for size in (offset, *shape, *stride)):
            raise ValueError(f"a tensor of sizes {shape!r:.80}, strides {stride!r:.80} at {offset!r:.80}")
        if len(shape) != len(stride) or len(shape) > _MAX_DIMENSIONS:
            raise ValueError(f"a tensor of {len(shape)} sizes and {len(stride)} strides")
        return _Tensor(storage, offset, shape, stride)


class _RebuildParameter:
    """In the place of `torch._utils._rebuild_parameter`."""

    __slots__ = ()

    def __call__(self, tensor: Any, *_rest: Any) -> Any:
        return tensor


def _tensors(path: Path, content: Any) -> dict[str, _Tensor]:
    """The dictionary of tensors in what was unpickled, which may be nested in one of a training program."""
    for key in _NESTED:
        if isinstance(content, dict) and isinstance(content.get(key), dict):
            content = content[key]
            break
    if not isinstance(content, dict):
        raise TritapeError(f"{path}: file must hold a dictionary of tensors, not {type(content).__name__}; {CURE}")
    tensors = {str(name): value for name, value in content.items() if isinstance(value, _Tensor)}
    if not tensors:
        raise TritapeError(f"{path}: file must hold tensors, not none; {CURE}")
    return tensors


def _stored(
    path: Path, pages: mmap.mmap, entries: dict[str, zipfile.ZipInfo], root: str, name: str, tensor: _Tensor
) -> Stored:
    """The tensor as a view of the mapped file."""
    storage = tensor.storage
    dtype, item = storage.type.dtype, storage.type.item
    entry = entries.get(f"{root}data/{storage.entry}")
    if entry is None:
        raise TritapeError(
            f"{path}: data of tensor {name} must be in the archive, not missing; download the file again"
        )
    if entry.compress_type != zipfile.ZIP_STORED:
        raise TritapeError(
            f"{path}: data of tensor {name} must be stored as torch does, not compressed; take the file that torch wrote"
        )
    if entry.file_size != storage.numel * item:
        raise TritapeError(
            f"{path}: data of tensor {name} must be {storage.numel * item} bytes, not {entry.file_size}; "
            "download the file again"
        )
    elements = math.prod(tensor.shape)
    last = tensor.offset + sum((size - 1) * step for size, step in zip(tensor.shape, tensor.stride))
    if elements and last >= storage.numel:
        raise TritapeError(
            f"{path}: elements of tensor {name} must lie within {storage.numel}, not up to {last}; download the file again"
        )
    if dtype not in STORED:
        return Stored(dtype, np.empty(0, np.uint8), str(path))
    if not elements:
        return Stored(dtype, np.empty(tensor.shape, STORED[dtype]), str(path))
    signature, name_bytes, extra_bytes = _LOCAL_HEADER.unpack_from(pages, entry.header_offset)
    start = entry.header_offset + _LOCAL_HEADER.size + name_bytes + extra_bytes
    if signature != b"PK\x03\x04" or start + entry.file_size > len(pages):
        raise TritapeError(
            f"{path}: data of tensor {name} must lie within the file, not beyond; download the file again"
        )
    start += tensor.offset * item
    flat = np.frombuffer(pages, STORED[dtype], last - tensor.offset + 1, start)
    bits = np.lib.stride_tricks.as_strided(flat, tensor.shape, [step * item for step in tensor.stride], writeable=False)
    if elements != len(flat):  # with gaps or repetitions: its pages stay until the file is closed
        return Stored(dtype, bits, str(path))
    return Stored(dtype, bits, str(path), pages, start)
