"""A component with one fault, to see that a proof finds it."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType
from typing import TypeVar
from unittest import mock

from tritape.base.errors import TritapeError

T = TypeVar("T")


def broken(kind: type[T], old: str, new: str) -> type[T]:
    """The class `kind` from its module's source, or that of a class it is made from, with `old` replaced by `new`.

    Raises `TritapeError` unless `old` stands there exactly once: then the fault must be moved along with the source.
    """
    modules = {
        base.__module__: sys.modules[base.__module__] for base in kind.__mro__ if base.__module__.startswith("tritape.")
    }
    owner = next((name for name, module in modules.items() if old in _source(module)), kind.__module__)
    source = _source(modules[owner])
    if source.count(old) != 1:
        path = Path(str(modules[owner].__file__))
        raise TritapeError(
            f"old must stand once in {path.name}, not {source.count(old)} times: {old!r}; choose another line"
        )
    name = f"{owner}_broken_{abs(hash((old, new)))}"
    copy = _executed(name, modules[owner], source.replace(old, new))
    if owner != kind.__module__:
        with mock.patch.dict(sys.modules, {owner: copy}):
            copy = _executed(
                f"{kind.__module__}_of_{name}", modules[kind.__module__], _source(modules[kind.__module__])
            )
    result: type[T] = vars(copy)[kind.__name__]
    return result


def _source(module: ModuleType) -> str:
    return Path(str(module.__file__)).read_text()


def _executed(name: str, module: ModuleType, source: str) -> ModuleType:
    """A module called `name` of this source, at the place of `module`."""
    spec = importlib.util.spec_from_loader(name, loader=None)
    assert spec is not None
    copy = importlib.util.module_from_spec(spec)
    with mock.patch.dict(sys.modules, {name: copy}):
        exec(compile(source, str(module.__file__), "exec"), vars(copy))
    return copy
