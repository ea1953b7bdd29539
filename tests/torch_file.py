"""A writer of `pytorch_model.bin` without torch, opcode by opcode, so that tests can also write what torch never would."""

from __future__ import annotations

import io
import pickle
import struct
import zipfile
from collections.abc import Mapping
from pathlib import Path

import numpy as np

STORAGES = {"F16": "HalfStorage", "BF16": "BFloat16Storage", "F32": "FloatStorage", "F64": "DoubleStorage"}
ORDERED = b"ccollections\nOrderedDict\n)R"


def text(value: str) -> bytes:
    """A string on the pickle's stack."""
    data = value.encode()
    return b"X" + struct.pack("<I", len(data)) + data


def number(value: int) -> bytes:
    """An integer on the pickle's stack."""
    return b"\x8a\x08" + struct.pack("<q", value)


def numbers(values: tuple[int, ...]) -> bytes:
    """A tuple of integers."""
    return b"(" + b"".join(map(number, values)) + b"t"


def tensor(storage: str, key: str, numel: int, offset: int, shape: tuple[int, ...], stride: tuple[int, ...]) -> bytes:
    """A tensor as torch pickles it: a view of a storage, which is named from outside."""
    persistent = (
        b"(" + text("storage") + f"ctorch\n{storage}\n".encode() + text(key) + text("cpu") + number(numel) + b"tQ"
    )
    arguments = persistent + number(offset) + numbers(shape) + numbers(stride) + b"\x89" + ORDERED
    return b"ctorch._utils\n_rebuild_tensor_v2\n(" + arguments + b"tR"


def dictionary(entries: Mapping[str, bytes]) -> bytes:
    """An OrderedDict of pickled values."""
    return ORDERED + b"(" + b"".join(text(name) + value for name, value in entries.items()) + b"u"


def write_archive(path: Path, content: bytes, data: Mapping[str, bytes], compression: int = zipfile.ZIP_STORED) -> None:
    """The file around a pickled value and the bytes of its storages."""
    with zipfile.ZipFile(path, "w", compression) as archive:
        archive.writestr("archive/data.pkl", b"\x80\x02" + content + b".")
        archive.writestr("archive/byteorder", "little")
        for key, part in data.items():
            archive.writestr(f"archive/data/{key}", part)
        archive.writestr("archive/version", "3\n")


def write_tensors(path: Path, tensors: Mapping[str, tuple[str, np.ndarray]]) -> None:
    """A state dictionary: the type's name and the bits of each tensor."""
    entries, data = {}, {}
    for place, (name, (dtype, bits)) in enumerate(tensors.items()):
        stride = tuple(step // bits.itemsize for step in np.ascontiguousarray(bits).strides)
        entries[name] = tensor(STORAGES[dtype], str(place), bits.size, 0, bits.shape, stride)
        data[str(place)] = bits.tobytes()
    write_archive(path, dictionary(entries), data)


def plain_pickle(value: object) -> bytes:
    """What `pickle` makes of a value, without the opcodes around it."""
    stream = io.BytesIO()
    pickle.Pickler(stream, 2).dump(value)
    return stream.getvalue()[2:-1]
