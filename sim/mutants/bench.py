"""A private copy of the sources in which one file at a time is a mutant, and processes that see it."""

from __future__ import annotations

import contextlib
import json
import os
import resource
import shutil
import signal
import sys
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tritape.base.cache import cache_root
from tritape.base.package import PACKAGE

COPIED = ("base", "bitstreams", "cli", "host", "hw", "model", "rtl_gen", "sim", "tests", "tritape", "pyproject.toml")
LIMIT_CPU_S = 600
"""Of one process: what takes longer hangs."""
LIMIT_S = 3600
"""Of one run of tests, however busy the machine is."""
_KINDS = ("bench", "converted", "fast", "proofs", "verilog")  # of the cache: what a mutant adds is taken away


class PrivateCopy:
    """The tree under `folder/tree` with a cache of its own beside it; nothing of a mutant is seen outside.

    `edit(path, text)` changes a file of `hw/` until `restore`. `call(name, *arguments)` runs a function of
    `tritape.sim.mutants.inside` in a new process that imports the copy, and returns what it returned; or `{"error": ...}` if it
    raised, died or hung; the file `log` has where.
    """

    def __init__(self, folder: Path) -> None:
        folder = folder.absolute()
        self.tree, self.cache, self._reply = folder / "tree", folder / "cache", folder / "reply.json"
        self.log = folder / "log"
        shutil.rmtree(folder, ignore_errors=True)
        self.tree.mkdir(parents=True)
        root = PACKAGE.parent
        skip = shutil.ignore_patterns("__pycache__")
        for name in COPIED:
            if (root / name).is_dir():
                shutil.copytree(root / name, self.tree / name, symlinks=True, ignore=skip)
            elif (root / name).exists():
                shutil.copy(root / name, self.tree / name)
        for kind in ("runtime", *_KINDS):
            self._borrow(cache_root() / kind, self.cache / kind)
        self._edited: tuple[Path, bytes] | None = None
        self._there = self._entries()
        import_others()

    @staticmethod
    def _borrow(source: Path, target: Path) -> None:
        """What is in the cache by now, without copying it where links can do."""
        target.mkdir(parents=True)
        for entry in source.iterdir() if source.is_dir() else ():
            if entry.is_dir() and "." not in entry.name:
                try:
                    shutil.copytree(entry, target / entry.name, copy_function=os.link)
                except OSError:  # another file system, or somebody is at it
                    shutil.rmtree(target / entry.name, ignore_errors=True)

    def _entries(self) -> set[Path]:
        return {path for kind in _KINDS for path in (self.cache / kind).glob("*")}

    def keep(self) -> None:
        """What is in the cache now stays: it belongs to the sources as they are."""
        self._there = self._entries()

    def edit(self, path: str, text: bytes) -> None:
        """Make the one file a mutant."""
        self.restore()
        file = self.tree / "hw" / path
        self._edited = file, file.read_bytes()
        file.write_bytes(text)

    def restore(self) -> None:
        """Take the mutant back, and what it left in the cache."""
        if self._edited:
            self._edited[0].write_bytes(self._edited[1])
            self._edited = None
            for path in self._entries() - self._there:
                shutil.rmtree(path) if path.is_dir() else path.unlink()

    def call(self, function: str, *arguments: Any) -> dict[str, Any]:
        """Run a function of `inside` on the copy."""
        self._reply.unlink(missing_ok=True)
        child = os.fork()
        if not child:
            self._child(function, arguments)
        deadline = time.monotonic() + LIMIT_S
        while os.waitpid(child, os.WNOHANG) == (0, 0):
            if time.monotonic() > deadline:
                os.killpg(child, signal.SIGKILL)
                os.waitpid(child, 0)
                return {"error": "time"}
            time.sleep(0.02)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(child, signal.SIGKILL)  # simulators that it left
        if not self._reply.exists():
            return {"error": "died"}
        reply: dict[str, Any] = json.loads(self._reply.read_text())
        return reply

    def _child(self, function: str, arguments: tuple[Any, ...]) -> None:
        """Never returns."""
        status = 1
        try:
            os.setsid()
            resource.setrlimit(resource.RLIMIT_CPU, (LIMIT_CPU_S, LIMIT_CPU_S + 5))
            log = os.open(self.log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
            os.dup2(log, 1)
            os.dup2(log, 2)
            os.chdir(self.tree)
            os.environ |= {"TRITAPE_CACHE": str(self.cache), "PYTHONPATH": str(self.tree)}
            sys.path.insert(0, str(self.tree))
            sys.dont_write_bytecode = True
            for name in [name for name in sys.modules if name.partition(".")[0] == "tritape"]:
                del sys.modules[name]
            import tritape.sim.mutants.inside as inside

            assert Path(inside.__file__).is_relative_to(self.tree), "the copy must be imported"
            run: Callable[..., dict[str, Any]] = getattr(inside, function)
            try:
                reply = run(*arguments)
            except Exception as error:
                traceback.print_exc()
                reply = {"error": "".join(traceback.format_exception_only(error)).strip()}
            self._reply.write_text(json.dumps(reply))
            status = 0
        finally:
            os._exit(status)


def import_others() -> None:
    """What every run needs of others, imported once; the processes begin with it."""
    import amaranth.back.rtlil
    import amaranth.lib.fifo
    import amaranth.lib.memory
    import amaranth.sim
    import cocotb_tools.runner
    import find_libpython
    import hypothesis
    import numpy
    import pytest

    del amaranth, cocotb_tools, find_libpython, hypothesis, numpy, pytest
