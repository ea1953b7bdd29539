"""Results as they come, one JSON line each, in a file that a later run goes on with."""

from __future__ import annotations

import fcntl
import json
import os
from pathlib import Path
from types import TracebackType
from typing import Any

from tritape.base.cache import digest
from tritape.base.errors import TritapeError
from tritape.base.json_text import json_text
from tritape.rtl_gen.explore.space import Point


def key(stage: str, point: Point, sources: str) -> str:
    """Names a result: of its stage, its point and the sources that compute it."""
    return digest(stage, json.dumps(point, sort_keys=True), sources)


class ResultFile:
    """A context manager over a JSON-lines file; `results` has those that are there, by key.

    Every result is one write of one whole line, so an interrupt, or the end of the process, leaves whole lines only. A line
    without its end (a lost disk) is cut off when the file is opened. One process at a time: raises `TritapeError` when
    another has it, or when a line is no result.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.results: dict[str, dict[str, Any]] = {}

    def __enter__(self) -> ResultFile:
        if not self.path.parent.is_dir():
            raise TritapeError(f"{self.path}: folder must exist, not be missing; create {self.path.parent}")
        self._file = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o644)
        try:
            self._lock()
            self._read()
        except BaseException:
            os.close(self._file)
            raise
        return self

    def _lock(self) -> None:
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise TritapeError(
                f"{self.path}: results must be of one run at a time, not two; wait for the other, or give another file with -o"
            ) from None

    def _read(self) -> None:
        content = self.path.read_bytes()
        whole = content.rfind(b"\n") + 1
        if whole < len(content):
            os.ftruncate(self._file, whole)
        for number, line in enumerate(content[:whole].splitlines(), 1):
            try:
                entry = json.loads(line)
                self.results[entry["key"]] = entry["result"]
            except (ValueError, KeyError, TypeError):
                raise TritapeError(
                    f"{self.path}: line {number} must be a result of tritape explore, not {line[:40]!r}; give another file"
                ) from None

    def add(self, stage: str, point: Point, sources: str, result: dict[str, Any]) -> None:
        """Keep a result, in the file first."""
        name = key(stage, point, sources)
        line = json_text({"key": name, "stage": stage, "point": point, "result": result}) + "\n"
        os.write(self._file, line.encode())
        self.results[name] = result

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, where: TracebackType | None
    ) -> None:
        os.close(self._file)
