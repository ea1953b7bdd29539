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
import tempfile
from collections.abc import Callable
from pathlib import Path


def cache_root() -> Path:
    """Folder that holds every entry: `$TRITAPE_CACHE`, else `$XDG_CACHE_HOME/tritape`, else `~/.cache/tritape`."""
    if root := os.environ.get("TRITAPE_CACHE"):
        return Path(root)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "tritape"


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
    If it raises, the temporary folder is removed, no entry appears and the exception goes on to the caller.
    """
    entry = cache_root() / kind / key
    if entry.is_dir():
        return entry
    entry.parent.mkdir(parents=True, exist_ok=True)
    lock = entry.parent / f"{key}.lock"
    with lock.open("w") as held:
        fcntl.flock(held, fcntl.LOCK_EX)  # released when the file closes, also if the process dies
        if not entry.is_dir():
            work = Path(tempfile.mkdtemp(prefix=f"{key}.", dir=entry.parent))
            try:
                build(work)
                work.rename(entry)
            finally:
                shutil.rmtree(work, ignore_errors=True)
    return entry
