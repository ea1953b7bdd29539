"""Where this package lies: a folder of links in a clone, of files once it is installed. For whoever reads its own files."""

from __future__ import annotations

import subprocess
from functools import cache
from pathlib import Path

import tritape
from tritape.base.cache import digest

PACKAGE = Path(tritape.__file__ or "").parent
"""The folder `tritape`."""


def source_digest(*parts: str) -> str:
    """Hash of the Python sources in folders of the package, such as `hw`, or of single files, such as `base/cache.py`."""
    files: list[Path] = []
    for part in parts:
        path = PACKAGE / part
        files += sorted(path.rglob("*.py")) if path.is_dir() else [path]
    return digest(*(file.read_bytes() for file in files))


@cache
def is_clone() -> bool:
    """Whether the package is a Git checkout of this project, and not installed into somebody else's."""
    return (PACKAGE / "hw").is_symlink() and _git("ls-files", "--error-unmatch", "__init__.py") is not None


def git_revision() -> str | None:
    """Commit of this checkout, with `-dirty` when files of the design differ from it; None outside a checkout."""
    if not is_clone():
        return None
    revision = _git("rev-parse", "--short=12", "HEAD")
    changed = _git("status", "--porcelain", "--", ":/hw", ":/rtl_gen", ":/model", ":/base")
    return f"{revision}-dirty" if changed else revision


def _git(*arguments: str) -> str | None:
    """What git prints in the package's folder; None where it fails or is not there."""
    try:
        done = subprocess.run(["git", "-C", str(PACKAGE), *arguments], capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return None
    return done.stdout.strip()
