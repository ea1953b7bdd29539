"""Verilog in, a simulator executable out. The fast simulation and the benches build with it.

Verilator writes C++, the compiler makes an executable of it. What does not depend on the design is compiled once and kept
in the cache: Verilator's run-time objects and a precompiled header of its classes. Two ways to compile the rest:

- `OPTIMISED`: for runs of millions of cycles. One object per C++ file, on several cores; what runs once, at the start, is not
  optimised.
- `QUICK`: for runs of milliseconds. Model and main are one unit without optimisation: a tenth of the time to compile, and some
  five times slower to run.
"""

from __future__ import annotations

import os
import re
import subprocess
import threading
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from tritape.base import simulators
from tritape.base.cache import cached, digest
from tritape.base.errors import TritapeError

JOBS = 2  # compiler processes at a time
OPTIMISED = ("-O1",)
"""A model is straight-line code much larger than the instruction cache: `-O3` is slower, and `-Os` no faster and
longer to compile (docs/decisions/0003)."""
QUICK = ("-O0",)

_OUTPUT_SPLIT = 5000  # statements per C++ file, so that a large design compiles on several cores
_SLOW = "__Slow"  # Verilator's word in the names of C++ files that run once, at the start
_ONCE = "model_once.cpp"  # one unit of what is not optimised
_MACRO = re.compile(r"^(VM_(?:COVERAGE|SC|TIMING|TRACE\w*)) = (\d)$", re.MULTILINE)
_RUNTIME = re.compile(r"^  (verilated\w*) \\$", re.MULTILINE)
_COMMON = "verilated.h", "verilated_syms.h", "memory", "string", "vector"  # what every C++ file of a model includes

Tell = Callable[[str], None]


def build_executable(
    folder: Path,
    verilog: str,
    top: str,
    *,
    prefix: str,
    options: Sequence[str],
    sources: Mapping[str, str],
    flags: Sequence[str] = OPTIMISED,
    libraries: Sequence[str] = (),
    progress: Tell | None = None,
) -> Path:
    """Executable `folder/model` made from the Verilog text with module `top`, and C++ around it; `folder/model.v` stays too.

    - `prefix`: name of the model's class and header. `options`: of Verilator.
    - `sources`: file name -> text; those that end in `.cpp` are compiled, the others (headers) lie beside them.
    - `flags`: `OPTIMISED` or `QUICK`. `libraries`: the linker's arguments.
    - `progress` gets one line a step: `verilating`, `compiling 3/12`, `linking`.

    Raises `TritapeError` with the stage that failed and the end of its log. Not cached: see `build_key`.
    """
    tell = progress or (lambda line: None)
    work = folder / "obj"
    work.mkdir()
    (folder / "model.v").write_text(verilog)
    for name, text in sources.items():
        (work / name).write_text(text)
    tell("verilating")
    command = [str(simulators.verilator_root() / "bin" / "verilator_bin"), "--cc", *options]
    command += ["--output-split", str(_OUTPUT_SPLIT)] if flags != QUICK else []
    command += ["--prefix", prefix, "--top-module", top, "--Mdir", str(work), str(folder / "model.v")]
    _step("verilating", command, work)

    classes = (work / f"{prefix}_classes.mk").read_text()
    macros = ["-DVERILATOR=1", *(f"-D{name}={value}" for name, value in _MACRO.findall(classes))]
    files = sorted(path.name for path in work.glob(f"{prefix}*.cpp"))
    files += [name for name in sources if name.endswith(".cpp")]
    once = [name for name in files if flags == QUICK or _SLOW in name]
    (work / _ONCE).write_text("".join(f'#include "{name}"\n' for name in once))
    files = [_ONCE, *(name for name in files if name not in once)]
    headers = {name: text for name, text in sources.items() if name.endswith(".h")}
    runtime = _compile(work, _compiler(macros), flags, files, _RUNTIME.findall(classes), headers, tell)
    tell("linking")
    objects = [f"{name}.o" for name in files]
    _step(
        "linking", [simulators.require_compiler(), "-o", "../model", *objects, *runtime, *libraries, "-pthread"], work
    )
    for item in work.iterdir():
        item.unlink()
    work.rmdir()
    return folder / "model"


def build_key(flags: Sequence[str]) -> str:
    """Hash of the tools, for the key under which an executable is kept."""
    return digest(simulators.verilator_version(), _compiler_version(), *flags)


def _compiler_version() -> str:
    return simulators.compiler_version(simulators.require_compiler())


def _compiler(macros: Sequence[str]) -> list[str]:
    include = simulators.verilator_root() / "include"
    return [simulators.require_compiler(), "-I.", f"-I{include}", f"-I{include / 'vltstd'}", *macros]


def _key(*parts: str) -> str:
    """Of what depends on tools and `parts` only, not on a design. Paths count: a precompiled header holds them."""
    return digest(simulators.verilator_version(), _compiler_version(), *parts)


def _common_header(common: Sequence[str], flags: Sequence[str]) -> list[str]:
    """Arguments that include a precompiled header. None for clang, which would check the header's path and time."""
    if "clang" in _compiler_version():
        return []

    def build(folder: Path) -> None:
        (folder / "common.h").write_text("".join(f"#include <{name}>\n" for name in _COMMON))
        _step("compiling", [*common, *flags, "-x", "c++-header", "common.h", "-o", "common.h.gch"], folder)

    return ["-include", str(cached("runtime", _key("header", *common, *flags), build) / "common.h")]


def _runtime_object(common: Sequence[str], module: str, headers: Mapping[str, str]) -> Path:
    """Object of a file of Verilator's run-time library, optimised; `headers` are those it wants and this project has."""

    def build(folder: Path) -> None:
        for name, text in headers.items():
            (folder / name).write_text(text)
        source = simulators.verilator_root() / "include" / f"{module}.cpp"
        _step("compiling", [*common, *OPTIMISED, "-c", str(source), "-o", f"{module}.o"], folder)

    wanted = headers if "fst" in module else {}
    texts = [part for item in sorted(wanted.items()) for part in item]
    return cached("runtime", _key(module, *common, *texts), build) / f"{module}.o"


def _compile(
    folder: Path,
    common: Sequence[str],
    flags: Sequence[str],
    files: Sequence[str],
    modules: Sequence[str],
    headers: Mapping[str, str],
    tell: Tell,
) -> list[str]:
    """Compile the files to `FILE.o`, `JOBS` at a time, and tell of each; the run-time objects of `modules`, from the cache if
    they are there. The first error ends what waits."""
    done, lock = 0, threading.Lock()

    def compile_one(name: str) -> None:
        nonlocal done
        chosen = QUICK if name == _ONCE else flags
        first = _common_header(common, chosen)
        _step("compiling", [*common, *chosen, *first, "-c", name, "-o", f"{name}.o"], folder)
        with lock:
            done += 1
            tell(f"compiling {done}/{len(files)}")

    pool = ThreadPoolExecutor(JOBS)
    try:
        runtime = [pool.submit(_runtime_object, common, module, headers) for module in modules]
        for future in [pool.submit(compile_one, name) for name in files]:
            future.result()
        return [str(future.result()) for future in runtime]
    finally:
        pool.shutdown(cancel_futures=True)


def _step(stage: str, command: Sequence[str], folder: Path) -> None:
    """Run one command in a folder; `TritapeError` with the end of what it printed if it fails."""
    env = {**os.environ, **simulators.verilator_env()}
    done = subprocess.run(
        command, cwd=folder, env=env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors="replace"
    )
    if done.returncode:
        tail = "\n".join(done.stdout.splitlines()[-20:])
        raise TritapeError(f"simulator build must succeed, not fail while {stage}; the log ends with:\n{tail}")
