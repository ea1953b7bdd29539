"""Character vectors out of an R package's lazy-load database (`Rdata.rdb`), without R.

The file is a sequence of objects, each four bytes of big-endian length and one zlib stream that holds an XDR
serialisation. Only what a package of texts needs is read: a character vector as the object itself.
Source: R Internals, "Serialization Formats" and "Lazy loading".
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator
from pathlib import Path

from tritape.base.errors import TritapeError

_STRSXP = 16  # type code of a character vector


def read_texts(path: Path) -> list[list[str]]:
    """The character vectors of the database at `path`, in file order.

    Raises TritapeError naming the file when an object is no zlib stream or no character vector.
    """
    try:
        return [_strings(block) for block in _blocks(path.read_bytes())]
    except (zlib.error, struct.error, UnicodeDecodeError, ValueError) as error:
        raise TritapeError(
            f"{path}: file must hold zlib blocks of R character vectors, not {error}; download the package again"
        ) from None


def _blocks(data: bytes) -> Iterator[bytes]:
    position = 0
    while position < len(data):
        (length,) = struct.unpack_from(">I", data, position)
        stream = zlib.decompressobj()
        block = stream.decompress(data[position + 4 :])
        if len(block) != length:
            raise ValueError(f"a block of {len(block)} bytes where {length} were announced")
        yield block
        position = len(data) - len(stream.unused_data)


def _strings(block: bytes) -> list[str]:
    if block[:2] != b"X\n":
        raise ValueError("another serialisation than XDR")
    (version,) = struct.unpack_from(">i", block, 2)
    position = 14
    if version == 3:  # the name of the native encoding follows
        position += 4 + struct.unpack_from(">i", block, 14)[0]
    flags, count = struct.unpack_from(">ii", block, position)
    if flags & 0xFF != _STRSXP:
        raise ValueError(f"an object of type {flags & 0xFF}")
    position += 8
    texts = []
    for _ in range(count):
        _, length = struct.unpack_from(">ii", block, position)
        position += 8
        size = max(length, 0)  # -1 is NA
        if position + size > len(block):
            raise ValueError("a truncated string")
        texts.append(block[position : position + size].decode())
        position += size
    return texts
