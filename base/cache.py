"""A content-addressed cache of build results, safe under parallel test workers.

One entry is one folder `<root>/<kind>/<digest>`; it appears complete or not at all: the builder fills a temporary
folder beside it, which is then renamed. A lock file per entry keeps two processes from building the same thing twice.
The root is `~/.cache/tritape`, or the folder in the environment variable `TRITAPE_CACHE`. Deleting it is always safe.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator
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


@contextlib.contextmanager
def reused_objects(folder: Path, key: str) -> Iterator[None]:
    """Verilator's own run-time objects (`verilated*.o`) for a build in `folder`: they take longer to compile than most
    designs. `key` hashes what they depend on (Verilator, compiler, flags), not the design.

    Before the `with` block they are copied in, if a build with the same key left them; after it they are kept.
    """
    entry = cache_root() / "runtime" / key
    if entry.is_dir():
        later = time.time() + 3600  # they depend on the Makefile that is about to be written
        for item in entry.iterdir():
            copy = shutil.copy(item, folder)
            os.utime(copy, (later, later))
    yield
    if not entry.is_dir():

        def keep(work: Path) -> None:
            for item in folder.glob("verilated*.o"):
                shutil.copy(item, work)

        cached("runtime", key, keep)
