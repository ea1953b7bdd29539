"""Verilog and a C++ main in, a fast simulator executable out: Verilator without any Python in the loop."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Mapping
from pathlib import Path

from tritape.base.cache import cached, digest
from tritape.base.package import source_digest
from tritape.base.verilator import OPTIMISED, QUICK, build_executable, build_key
from tritape.sim.fast.clocked import clocked

_VERILATE = [
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
_INCLUDED = re.compile(r'^#include "([\w.]+)"', re.MULTILINE)


def build_model(
    verilog: str,
    top: str,
    main_cpp: Path,
    *,
    trace: bool = False,
    defines: Mapping[str, int] = {},
    progress: Callable[[str], None] | None = None,
) -> Path:
    """Executable made from the Verilog text with module `top`, `clocked`, and the C++ file `main_cpp`; cached by content.

    The main includes `Vmodel.h`, and headers that lie beside it or in this folder, and drives the class `Vmodel`. With `trace`
    the model can write FST waveforms: `VM_TRACE` is then 1 and `verilated_fst_c.h` is there to include. `defines` are macros of
    the main.

    `progress` gets one line per step (`verilating`, `compiling 3/12`, `linking`), and nothing when the executable is in
    the cache. It is built for long runs; `TRITAPE_SIMULATOR=quick` in the environment builds it for short ones (the
    tests do, `tests/conftest.py`). Raises `TritapeError` with the stage that failed and the end of its log.
    """
    flags = QUICK if os.environ.get("TRITAPE_SIMULATOR") == "quick" else OPTIMISED
    main_text = "".join(f"#define {name} {value}\n" for name, value in defines.items()) + main_cpp.read_text()
    here = Path(__file__).parent
    paths = [folder / name for name in _INCLUDED.findall(main_text) for folder in (main_cpp.parent, here)]
    paths += [here / name for name in _FST_HEADERS] if trace else []
    sources = {"main.cpp": main_text} | {path.name: path.read_text() for path in paths if path.is_file()}
    options = [*_VERILATE, *(["--trace-fst"] if trace else [])]
    rewritten = source_digest("sim/fast/clocked.py")
    key = digest(
        verilog, top, build_key(flags), rewritten, *options, *(part for item in sources.items() for part in item)
    )

    def build(folder: Path) -> None:
        build_executable(
            folder,
            clocked(verilog),
            top,
            prefix=_PREFIX,
            options=options,
            sources=sources,
            flags=flags,
            progress=progress,
        )

    return cached("fast", key, build) / "model"
