"""A content-addressed cache of build results, safe under parallel test workers.

One entry is one folder `<root>/<kind>/<digest>`; it appears complete or not at all: the builder fills a temporary
folder beside it, which is then renamed. A lock file per entry keeps two processes from building the same thing twice.
The root is `~/.cache/tritape`, or the folder in the environment variable `TRITAPE_CACHE`. Deleting it is always safe.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import shutil
import stat
import tempfile
from collections.abc import Callable
from pathlib import Path

from tritape.base.errors import TritapeError

CURE = "set TRITAPE_CACHE to a folder of your own"


def cache_root() -> Path:
    """Folder that holds every entry: `$TRITAPE_CACHE`, else `$XDG_CACHE_HOME/tritape`, else `~/.cache/tritape`.

    Who has no home folder, or one that cannot be written to, gets `tritape-UID` in the system's folder for temporary files,
    which nobody else can read or write. Raises TritapeError when that is somebody else's.
    """
    if root := os.environ.get("TRITAPE_CACHE"):
        return Path(root).absolute()
    if root := os.environ.get("XDG_CACHE_HOME"):
        return Path(root).absolute() / "tritape"
    home = _home_cache()
    return _private_folder() if home is None else home / "tritape"


def lend_to_tools() -> None:
    """Without a home folder, let the tools that this process starts keep their caches in this one (`XDG_CACHE_HOME`)."""
    if not os.environ.get("XDG_CACHE_HOME") and _home_cache() is None:
        root = cache_root()
        os.environ |= {"TRITAPE_CACHE": str(root), "XDG_CACHE_HOME": str(root / "tools")}


def _home_cache() -> Path | None:
    """`~/.cache`, if it can be written to or made."""
    try:
        folder = Path.home() / ".cache"
    except RuntimeError:  # neither HOME nor an entry in the password file
        return None
    there = next(path for path in (folder, *folder.parents) if path.exists())
    return folder if folder.is_absolute() and os.access(there, os.W_OK | os.X_OK) else None


def _private_folder() -> Path:
    folder = Path(tempfile.gettempdir()) / f"tritape-{os.getuid()}"
    try:
        folder.mkdir(mode=0o700, exist_ok=True)
        status = folder.lstat()
    except OSError as error:
        raise TritapeError(f"{folder}: cache must be a folder, not {error.strerror!r}; {CURE}") from error
    if not stat.S_ISDIR(status.st_mode) or status.st_uid != os.getuid() or status.st_mode & 0o022:
        raise TritapeError(f"{folder}: cache must be a folder that only you can write to, not somebody else's; {CURE}")
    return folder


def digest(*parts: str | bytes) -> str:
    """Hash of the parts in order, as 32 hexadecimal digits; where one part ends and the next begins counts too."""
    state = hashlib.sha256()
    for part in parts:
        raw = part.encode() if isinstance(part, str) else part
        state.update(len(raw).to_bytes(8, "little"))
        state.update(raw)
    return state.hexdigest()[:32]


def cached(kind: str, key: str, build: Callable[[Path], None]) -> Path:
    """Folder of the entry `key` of this `kind`; on a miss `build(folder)` fills it first.

    `build` gets an empty temporary folder in the cache (so a rename suffices) and must not store its path in it.
    If it raises, the temporary folder is removed, no entry appears and the exception goes on to the caller. Raises
    TritapeError where the cache cannot be written to.
    """
    entry = cache_root() / kind / key
    if entry.is_dir():
        return entry
    lock = entry.parent / f"{key}.lock"
    try:
        entry.parent.mkdir(parents=True, exist_ok=True)
        held = lock.open("w")
    except OSError as error:
        raise TritapeError(f"{entry.parent}: cache must be writable, not {error.strerror!r}; {CURE}") from error
    with held:
        fcntl.flock(held, fcntl.LOCK_EX)  # released when the file closes, also if the process dies
        if not entry.is_dir():
            work = Path(tempfile.mkdtemp(prefix=f"{key}.", dir=entry.parent))
            try:
                build(work)
                work.rename(entry)
            finally:
                shutil.rmtree(work, ignore_errors=True)
    return entry
