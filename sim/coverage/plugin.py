"""A pytest plugin: every simulator of Verilator counts lines and toggles. `pytest -p tritape.sim.coverage.plugin`.

The counts go to the folder `$TRITAPE_COVERAGE`, one file a run; `report` reads them. Verilog then says which line of Python each
part comes from, and is without the checks of `tritape.hw.assertion`, which are there to fail. Icarus counts nothing: a bench that
runs in Icarus alone, to save a build, runs in Verilator here, and of a test that takes both simulators one is left out.
"""

from __future__ import annotations

import os
import types
import uuid
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from amaranth.back import rtlil

import tritape.sim.bench.streams as streams
from tritape.base import package, verilog_text, yosys
from tritape.sim import virtual_board
from tritape.sim.bench import simulator
from tritape.sim.fast import build, runner, top

OPTIONS = ["--coverage-line", "--coverage-toggle"]
_WRITE = """{
        const char* folder = getenv("TRITAPE_COVERAGE");
        if (folder) VerilatedCov::write((std::string(folder) + "/" + std::to_string(getpid()) + ".dat").c_str());
    }
    delete top;"""


def _folder() -> Path:
    folder = Path(os.environ["TRITAPE_COVERAGE"]).absolute()
    folder.mkdir(parents=True, exist_ok=True)
    os.environ["TRITAPE_COVERAGE"] = str(folder)
    return folder


def _convert(component: Any, *, name: str, platform: object, emit_src: bool) -> str:
    return rtlil.convert(component, name=name, platform=None, emit_src=True)


def _run_script(script: str) -> str:
    """With the places of the sources, which the coverage report names."""
    return yosys.run_script("".join(line for line in script.splitlines(True) if not line.startswith("attrmap")))


def _digest(*parts: str) -> str:
    """Verilog that the cache keeps from other runs does not name its sources."""
    return package.source_digest(*parts) + " counted"


def _build(folder: Path, text: str, top: str, *, sources: Mapping[str, str], **options: Any) -> Path:
    main = sources["main.cpp"].replace("delete top;", _WRITE)
    main = f"#include <unistd.h>\n#include <cstdlib>\n#include <string>\n#include <verilated_cov.h>\n{main}"
    return _build_executable(folder, text, top, sources={**sources, "main.cpp": main}, **options)


def _run(build: Path, name: str, *arguments: Any, **options: Any) -> Path:
    file = _folder() / f"{uuid.uuid4().hex}.dat"
    options["plusargs"] = [*options.get("plusargs", ()), f"+verilator+coverage+file+{file}"]
    return _run_bench(build, "verilator", *arguments, **options)


def _bench(verilog: str, name: str) -> Path:
    return _build_bench(verilog, "verilator")


@pytest.hookimpl(trylast=True)  # when marks have been looked at
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Leave out what would run a second time."""
    seen = {item.nodeid for item in items}
    items[:] = [
        item for item in items if "icarus" not in item.nodeid or item.nodeid.replace("icarus", "verilator") not in seen
    ]


_folder()
_build_executable = build.build_executable
_run_bench = simulator.run_bench
_build_bench = simulator.build_bench
verilog_text.rtlil = types.SimpleNamespace(convert=_convert)
vars(verilog_text)["run_script"] = _run_script
simulator._VERILATE += OPTIONS
build._VERILATE += OPTIONS
vars(build)["build_executable"] = _build
runner._PATIENCE = 120.0
for module in (top, virtual_board):
    vars(module)["source_digest"] = _digest
for module in (simulator, streams):
    vars(module)["run_bench"] = _run
    vars(module)["build_bench"] = _bench
