"""What runs beside a mutant: in a process of its own that sees the private copy of the sources, and writes one JSON file."""

from __future__ import annotations

import ast
import hashlib
import inspect
import sys
import types
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

_BROKEN = "the hardware could not be built"


class _Watch:
    """A pytest plugin: the first failure, and whether it came out of building the hardware."""

    def __init__(self, tree: str) -> None:
        self.tree = tree
        self.failed = ""
        self.built = True
        self.passed = 0

    def pytest_exception_interact(self, node: Any, call: Any, report: Any) -> None:
        if not self.failed:
            self.failed = getattr(node, "nodeid", str(node))
            self.built = not any(
                str(entry.path).startswith(self.tree) and "/hw/" in str(entry.path) for entry in call.excinfo.traceback
            )

    def pytest_runtest_logreport(self, report: Any) -> None:
        self.passed += report.when == "call" and report.passed


def run_tests(arguments: list[str]) -> dict[str, Any]:
    """Run tests to the first that fails: `failed` names it, `built` is False where the edit is no hardware at all; `texts` are
    hashes of all hardware that went to a simulator."""
    import pytest

    from tritape.base import verilog_text

    texts: set[str] = set()
    convert: Callable[..., str] = verilog_text.rtlil.convert

    def watched(*args: Any, **options: Any) -> str:
        text = convert(*args, **options)
        texts.add(hashlib.sha256(text.encode()).hexdigest()[:16])
        return text

    verilog_text.rtlil = types.SimpleNamespace(convert=watched)
    watch = _Watch(str(Path.cwd()))
    options = ["-q", "-x", "-n", "0", "-p", "no:cacheprovider", "--hypothesis-seed=0", "--tb=native"]
    code = pytest.main([*options, "-m", "not long and not route and not again", *arguments], plugins=[watch])
    return {
        "code": int(code),
        "failed": watch.failed,
        "built": watch.built,
        "passed": watch.passed,
        "texts": sorted(texts),
    }


def designs(path: str) -> dict[str, str]:
    """Hash of the RTLIL of every component of `sim.proofs.units` that a file of `hw/` can shape, by name."""
    from amaranth.back import rtlil
    from amaranth.hdl import UnusedElaboratable

    from tritape.sim.proofs.units import NO_STREAM_LEAVES, UNITS

    makes = {name: unit.make for name, unit in UNITS.items()} | NO_STREAM_LEAVES
    module = "tritape.hw." + path.removesuffix(".py").replace("/", ".")
    found: dict[str, str] = {}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UnusedElaboratable)
        for depth in (0, 1, 9):  # the components in the file, those that import it, those that import these
            for name, make in makes.items():
                if name not in found and module in _imports(type(make()), depth):
                    try:
                        text = rtlil.convert(make(), name="top", emit_src=False, platform="simulation")
                    except Exception:  # an edit may raise anything
                        text = _BROKEN
                    found[name] = hashlib.sha256(text.encode()).hexdigest()[:16]
            if found and depth:
                break
    return found


def _imports(kind: type, depth: int) -> set[str]:
    """Modules of `hw/` that the component's module imports, up to a depth."""
    seen, now = {kind.__module__}, {kind.__module__}
    for base in kind.__mro__:
        if base.__module__.startswith("tritape.hw."):
            seen.add(base.__module__)
            now.add(base.__module__)
    for _ in range(depth):
        now = {name for module in now for name in _imported(module)} - seen
        seen |= now
    return seen


def _imported(module: str) -> set[str]:
    if not module.startswith("tritape.hw"):
        return set()
    tree = ast.parse(inspect.getsource(sys.modules[module]))
    return {node.module for node in ast.walk(tree) if isinstance(node, ast.ImportFrom) and node.module}


def prove(path: str) -> dict[str, Any]:
    """Try the quick proofs of the components in a file: `failed` is what one of them says."""
    from tritape.sim.proofs.catalogue import PROOFS

    module = "tritape.hw." + path.removesuffix(".py").replace("/", ".")
    for proof in PROOFS:
        kind = proof.kind if proof.kind is not None else type(proof.unit.make()) if proof.unit else None
        if kind is None or kind.__module__ != module or not proof.quick:
            continue
        verdict = proof.run()
        if not verdict.proved and not verdict.failed.startswith("no answer"):
            return {"failed": f"{proof.name}: {verdict.failed}"}
    return {"failed": ""}
