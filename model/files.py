"""Files that appear whole or not at all."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from tritape.model.errors import TritapeError


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
