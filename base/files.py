"""Files that appear whole or not at all, and mapped files that take no memory."""

from __future__ import annotations

import mmap
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from tritape.base.errors import TritapeError


@contextmanager
def replacing(path: Path) -> Iterator[BinaryIO]:
    """A binary stream to a temporary file beside `path` that takes its place at the end of the `with` block.

    After an error or an interrupt `path` is as it was and nothing is left behind. Raises TritapeError without a folder.
    """
    path = Path(path)
    if not path.parent.is_dir():
        raise TritapeError(f"{path}: folder must exist, not be missing; create {path.parent}")
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=path.name, suffix=".part")
    try:
        with os.fdopen(handle, "wb") as stream:
            yield stream
        os.chmod(temporary, 0o644)
        os.replace(temporary, path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise


def map_file(path: Path) -> mmap.mmap:
    """A file, not empty, as memory that is read when touched."""
    with path.open("rb") as stream:
        return mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ)


def release(pages: mmap.mmap, start: int = 0, length: int | None = None) -> None:
    """Let the pages of a part of a mapped file go (default all); they come back when touched again."""
    if hasattr(mmap, "MADV_DONTNEED"):
        end = len(pages) if length is None else start + length
        start -= start % mmap.PAGESIZE
        pages.madvise(mmap.MADV_DONTNEED, start, end - start)
