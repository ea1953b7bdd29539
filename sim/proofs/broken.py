"""A component with one fault, to see that a proof finds it."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from typing import TypeVar

from tritape.base.errors import TritapeError

T = TypeVar("T")


def broken(kind: type[T], old: str, new: str) -> type[T]:
    """The class `kind` from its module's source with `old` replaced by `new`.

    Raises `TritapeError` unless `old` stands there exactly once: then the fault must be moved along with the source.
    """
    module = sys.modules[kind.__module__]
    path = Path(str(module.__file__))
    source = path.read_text()
    if source.count(old) != 1:
        raise TritapeError(
            f"old must stand once in {path.name}, not {source.count(old)} times: {old!r}; choose another line"
        )
    name = f"{kind.__module__}_broken_{abs(hash((old, new)))}"
    spec = importlib.util.spec_from_loader(name, loader=None)
    assert spec is not None
    copy = importlib.util.module_from_spec(spec)
    sys.modules[name] = copy
    try:
        exec(compile(source.replace(old, new), str(path), "exec"), vars(copy))
    finally:
        del sys.modules[name]
    result: type[T] = vars(copy)[kind.__name__]
    return result
