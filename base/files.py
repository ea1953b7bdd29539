"""Files that appear whole or not at all, texts as editors save them, and mapped files that take no memory."""

from __future__ import annotations

import errno
import mmap
import os
import re
import shutil
import stat
import sys
import tempfile
from codecs import BOM_UTF8, BOM_UTF16_BE, BOM_UTF16_LE, BOM_UTF32_BE, BOM_UTF32_LE
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO, cast

from tritape.base.errors import TritapeError

MARKS = {
    BOM_UTF32_LE: "utf-32",  # before UTF-16, whose mark it begins with
    BOM_UTF32_BE: "utf-32",
    BOM_UTF8: "utf-8-sig",
    BOM_UTF16_LE: "utf-16",
    BOM_UTF16_BE: "utf-16",
}
"""The marks with which editors begin a file, and what they say about its encoding."""
_NO_SWAP = {errno.EACCES, errno.EPERM, errno.EROFS, errno.EBUSY, errno.EXDEV, errno.ENAMETOOLONG}
"""Why a file beside another cannot be made or take its place, while the other itself may still be written to."""


@contextmanager
def replacing(path: Path) -> Iterator[BinaryIO]:
    """A binary stream, seekable, whose bytes are in the file `path` after the `with` block, all of them or none.

    A plain file is replaced at once by one that was written beside it, and keeps its permissions; through a symbolic link the
    file that it names is. What a rename would destroy is written through at the end instead: a pipe, a device, an open
    descriptor (`/dev/stdout`, `/dev/fd/N`), a file with several names, one in a folder that cannot be written to.

    After an error or an interrupt `path` is as it was and nothing is left behind. Raises TritapeError without a folder.
    """
    handle, target = check_output(Path(path))
    temporary = None
    if handle is None and _is_plain(target):
        with suppress(OSError):
            temporary = tempfile.mkstemp(dir=target.parent, prefix=target.name[:40], suffix=".part")
    if temporary is None:
        with tempfile.TemporaryFile() as stream:
            yield cast(BinaryIO, stream)
            _write_through(stream, target if handle is None else handle)
        return
    name = Path(temporary[1])
    try:
        with os.fdopen(temporary[0], "wb+") as stream:
            yield stream
            stream.flush()
            os.chmod(name, _mode(target))
            try:
                os.replace(name, target)
            except OSError as error:
                if error.errno not in _NO_SWAP or not target.exists():
                    raise
                _write_through(stream, target)
                name.unlink()
    except BaseException:
        name.unlink(missing_ok=True)
        raise


def check_output(path: Path) -> tuple[int | None, Path]:
    """What `replacing` would write to: an open descriptor, or a path without links. Raises TritapeError if it could not: no
    folder, a folder, no permission."""
    handle, target = _where(path)
    if handle is not None:
        try:
            os.fstat(handle)
        except OSError:
            raise TritapeError(f"{path}: descriptor must be open, not closed; choose another file") from None
        return handle, target
    if not target.parent.is_dir():
        folder = path.parent if not path.parent.is_dir() else target.parent
        raise TritapeError(f"{path}: folder must exist, not be missing; create {folder}")
    if target.is_dir():
        raise TritapeError(f"{path}: output must be a file, not a folder; add a file name")
    if not os.access(target if target.exists() else target.parent, os.W_OK):
        raise TritapeError(
            f"{path}: output must be writable, not forbidden; choose another folder, or change its permissions"
        )
    return None, target


def descriptor(path: Path) -> int | None:
    """The open descriptor that a path such as `/dev/stdout` or `/dev/fd/3` names; None for every other path."""
    return _where(path)[0]


def read_text(path: Path, what: str = "text") -> str:
    """The text in a file or a pipe, as editors save it: UTF-8, or UTF-8, UTF-16 or UTF-32 that begins with its mark; ends of
    lines become `\\n`. Raises TritapeError that names the cure for other encodings, folders and what is not there."""
    path = Path(path)
    if path.is_dir() or not path.exists():
        raise TritapeError(
            f"{path}: {what} must be a file, not {'a folder' if path.exists() else 'missing'}; give its path"
        )
    return decode_text(path.read_bytes(), str(path), what)


def decode_text(raw: bytes, where: str, what: str = "text") -> str:
    """`read_text` of the bytes of a file."""
    encoding = next((name for mark, name in MARKS.items() if raw.startswith(mark)), "utf-8")
    try:
        text = raw.decode(encoding)
    except UnicodeDecodeError as error:
        if encoding == "utf-8":
            wrong = f"UTF-8, not have byte {raw[error.start]:#04x} at {error.start}"
        else:
            wrong = f"whole {encoding.upper()} as its first bytes say, not {error.reason} at byte {error.start}"
        raise TritapeError(f"{where}: {what} must be {wrong}; save it as UTF-8, or: iconv -f LATIN1 -t UTF-8") from None
    return text.replace("\r\n", "\n").replace("\r", "\n")


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


def _where(path: Path) -> tuple[int | None, Path]:
    """What a path means once its links are followed: an open descriptor of this process, or a path without links."""
    current = Path(path)
    for _ in range(40):  # as many links as Linux follows
        current = Path(os.path.realpath(current.parent)) / current.name
        found = re.fullmatch(rf"(?:/proc/(?:self|{os.getpid()})(?:/task/\d+)?|/dev)/fd/(\d+)", str(current))
        if found:
            return int(found[1]), current
        if not current.is_symlink():
            return None, current
        current = current.parent / os.readlink(current)
    raise TritapeError(f"{path}: links must lead to a file, not in a circle; remove one of them")


def _is_plain(path: Path) -> bool:
    """Whether a file there is none, or one that may be replaced."""
    try:
        status = path.stat()
    except FileNotFoundError:
        return True
    return stat.S_ISREG(status.st_mode) and status.st_nlink == 1


def _mode(path: Path) -> int:
    """The permissions of a file, or those of a new one."""
    try:
        return stat.S_IMODE(path.stat().st_mode)
    except FileNotFoundError:
        mask = os.umask(0)
        os.umask(mask)
        return 0o666 & ~mask


def _write_through(source: BinaryIO, target: Path | int) -> None:
    """The bytes of `source` into what is there, behind what this process has printed there already."""
    source.seek(0)
    for stream in (sys.stdout, sys.stderr):
        if stream is not None and isinstance(target, int):
            stream.flush()
    handle = (
        os.dup(target) if isinstance(target, int) else os.open(target, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o666)
    )
    with os.fdopen(handle, "wb") as stream:
        shutil.copyfileobj(source, stream)
