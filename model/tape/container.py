"""The file that a tape lies in: metadata, tokenizer and memory image (docs/tape.md, "The file")."""

from __future__ import annotations

import json
import mmap
import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tritape.base.errors import TritapeError
from tritape.base.files import map_file, release, replacing
from tritape.model.codes import code_named
from tritape.model.tape.layout import Geometry
from tritape.model.tape.metadata import parse_metadata

_HEAD = struct.Struct("<8sIIQI")
_MAGIC = b"TRITAPE1"


@dataclass(frozen=True)
class TapeFile:
    """A tape as it lies on disk: metadata (JSON object), tokenizer.json bytes (may be empty), memory image.

    pages: the mapped file that `image` is a view of, None for a tape in memory.
    """

    metadata: dict[str, Any]
    tokenizer: bytes
    image: bytes | memoryview
    pages: mmap.mmap | None = None

    @property
    def geometry(self) -> Geometry:
        """Groups, engines and weight code that it is packed for."""
        code = code_named(self.metadata.get("code", "ternary5"))  # absent where it is that one
        return Geometry(
            self.metadata["groups"], self.metadata.get("engines", 1), code
        )  # absent before there were several

    def release(self) -> None:
        """Give the memory of a mapped image back until it is read again."""
        if self.pages is not None:
            release(self.pages)


def write_tape(
    path: Path, metadata: dict[str, Any], tokenizer: bytes, image: Iterator[bytes], image_bytes: int
) -> None:
    """Write a tape file through a temporary file beside it, so that an interrupt leaves nothing half-written."""
    text = json.dumps(metadata, sort_keys=True).encode()
    crc = zlib.crc32(text + tokenizer)
    with replacing(path) as stream:
        stream.write(_HEAD.pack(_MAGIC, len(text), len(tokenizer), image_bytes, crc))
        stream.write(text + tokenizer)
        written = 0
        for piece in image:
            stream.write(piece)
            written += len(piece)
        if written != image_bytes:
            raise AssertionError(f"image has {written} bytes, planned {image_bytes}")


def read_tape(path: Path) -> TapeFile:
    """Map a tape file; its image is read when touched.

    Raises TritapeError for a file that is not a tape, is cut short or is damaged, and for metadata that cannot be right.
    """
    path = Path(path)
    if not path.is_file():
        raise TritapeError(f"{path}: tape must be a file, not missing; make one with `tritape pack`")
    with path.open("rb") as stream:
        first = stream.read(_HEAD.size)
    if len(first) < _HEAD.size or not first.startswith(_MAGIC):
        raise TritapeError(
            f"{path}: file must start with {_MAGIC!r}, not {first[:8]!r}; "
            "it is not a tape, or another version: pack it again"
        )
    data = map_file(path)
    _, metadata_bytes, tokenizer_bytes, image_bytes, crc = _HEAD.unpack(first)
    start = _HEAD.size + metadata_bytes + tokenizer_bytes
    if len(data) != start + image_bytes:
        raise TritapeError(
            f"{path}: file must have {start + image_bytes} bytes, not {len(data)}; it is truncated or damaged: pack it again"
        )
    head = data[_HEAD.size : start]
    if zlib.crc32(head) != crc:
        raise TritapeError(
            f"{path}: CRC-32 of the metadata must be {crc:#010x}, not {zlib.crc32(head):#010x}; "
            "the file is damaged: pack it again"
        )
    metadata = parse_metadata(head[:metadata_bytes], image_bytes, str(path))
    return TapeFile(metadata, head[metadata_bytes:], memoryview(data)[start:], data)
