"""Verilog and a C++ main in, a fast simulator executable out: Verilator without any Python in the loop."""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Callable, Mapping
from pathlib import Path

from tritape.base import simulators
from tritape.base.cache import cached, digest, reused_objects
from tritape.base.errors import TritapeError

JOBS = 2  # compiler processes at a time
OUTPUT_SPLIT = 5000  # statements per C++ file, so that a large design compiles on several cores
_VERILATE = [
    "--cc",
    "--exe",
    "-O3",
    "--x-assign",
    "fast",
    "--x-initial",
    "fast",
    "--no-assert",
    "-Wno-fatal",
    "-Wno-lint",
]
_FST_HEADERS = ("lz4.h", "zlib.h")  # of this folder: what Verilator's FST writer needs of those libraries
_PREFIX = "Vmodel"  # class and header name of the model: the C++ main includes "Vmodel.h", whatever the top is called


FLAGS = ("-Os", "-fno-tree-vectorize", "-fno-tree-slp-vectorize")
"""Optimisation flags. A model is straight-line code much larger than the instruction cache, so size is speed; and vector
copies of words that were just written in halves stall the processor's store buffer (measured: -O3 is 1.6 times slower)."""


def build_model(
    verilog: str,
    top: str,
    main_cpp: Path,
    *,
    trace: bool = False,
    defines: Mapping[str, int] = {},
    progress: Callable[[str], None] | None = None,
) -> Path:
    """Executable made from the Verilog text with module `top` and the C++ file `main_cpp`; cached by content.

    The main includes `Vmodel.h`, and headers that lie beside it, and drives the class `Vmodel`. With `trace` the model can
    write FST waveforms: `VM_TRACE` is then 1 and `verilated_fst_c.h` is there to include. `defines` are macros of the main.

    `progress` gets one line per step (`verilating`, `compiling 3/12`, `linking`), and nothing when the executable is in
    the cache. Raises `TritapeError` with the stage that failed and the end of its log.
    """
    compiler = simulators.require_compiler()
    main_text = "".join(f"#define {name} {value}\n" for name, value in defines.items()) + main_cpp.read_text()
    verilate = [*_VERILATE, "--output-split", str(OUTPUT_SPLIT), *(["--trace-fst"] if trace else [])]
    tools = digest(simulators.verilator_version(), simulators.compiler_version(compiler), *FLAGS)
    headers = {name: (Path(__file__).parent / name).read_text() for name in _FST_HEADERS} if trace else {}
    runtime = digest(tools, *verilate, *headers.values())
    beside = {name: main_cpp.parent / name for name in _INCLUDED.findall(main_text)}
    headers |= {name: path.read_text() for name, path in beside.items() if path.is_file()}
    key = digest(verilog, top, main_text, runtime, *headers.values())
    tell = progress or (lambda line: None)

    def build(folder: Path) -> None:
        work = folder / "obj"
        work.mkdir()
        (folder / "model.v").write_text(verilog)
        for name, text in {"main.cpp": main_text, **headers}.items():
            (work / name).write_text(text)
        env = {**os.environ, **simulators.verilator_env()}
        with reused_objects(work, runtime):
            tell("verilating")
            command = [str(simulators.verilator_root() / "bin" / "verilator_bin"), *verilate]
            command += ["--prefix", _PREFIX, "--top-module", top, "--Mdir", str(work), "-o", "model", "main.cpp"]
            _step("verilating", [*command, str(folder / "model.v")], work, env)
            # variables on make's command line override the Makefile's own
            make = ["make", f"-j{JOBS}", "-f", f"{_PREFIX}.mk"]
            make += [f"{level}={' '.join(FLAGS)}" for level in ("OPT_FAST", "OPT_SLOW", "OPT_GLOBAL")]
            make += ["LDLIBS=-pthread"] if trace else []  # not the system's -llz4 -lz
            plan = _step("planning", [*make, "--dry-run"], work, env)
            total, done = len(_COMPILED.findall(plan)), 0

            def compiled(line: str) -> None:
                nonlocal done
                if _COMPILED.search(line):
                    done += 1
                    tell(f"compiling {done}/{total}")
                elif _LINKED.search(line):
                    tell("linking")

            _step("compiling", make, work, env, compiled)
        (work / "model").rename(folder / "model")
        for item in work.iterdir():
            item.unlink()
        work.rmdir()

    return cached("fast", key, build) / "model"


_INCLUDED = re.compile(r'^#include "([\w.]+)"', re.MULTILINE)
_COMPILED = re.compile(r"^\S+ .*-c -o \S+\.o|^\S+ .*-include \S+ -c \S+", re.MULTILINE)
_LINKED = re.compile(r" -o model$")


def _step(
    stage: str, command: list[str], folder: Path, env: dict[str, str], line_seen: Callable[[str], None] | None = None
) -> str:
    """Run one command, hand on its lines as they come, return them all; `TritapeError` if it fails."""
    lines: list[str] = []
    with subprocess.Popen(
        command, cwd=folder, env=env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors="replace"
    ) as process:
        assert process.stdout is not None
        for line in process.stdout:
            lines.append(line.rstrip("\n"))
            if line_seen:
                line_seen(lines[-1])
    if process.returncode:
        tail = "\n".join(lines[-20:])
        raise TritapeError(f"simulator build must succeed, not fail while {stage}; the log ends with:\n{tail}")
    return "\n".join(lines)
