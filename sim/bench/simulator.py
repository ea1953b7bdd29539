"""A Verilog module `bench` with cocotb: built once per content, run as often as there is data. For `check_streams` and
for test modules of one's own (`tests/cocotb_runner.py`)."""

from __future__ import annotations

import contextlib
import functools
import re
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import find_libpython
import pytest
from cocotb_tools import config as cocotb_config
from cocotb_tools.runner import get_runner

from tritape.base import simulators
from tritape.base.cache import cached, digest
from tritape.base.errors import TritapeError
from tritape.base.verilator import QUICK, build_executable, build_key

_NAMES = "verilator", "icarus"
SIMULATORS = [pytest.param("icarus"), pytest.param("verilator", marks=pytest.mark.again)]
"""For `pytest.mark.parametrize`: a unit runs in Icarus, which builds in a tenth of a second, and with `-m again` in Verilator."""
TOP = "bench"
"""Name of the module that cocotb drives."""

_VERILATE = ["--vpi", "-Wno-fatal", "-Wno-lint", "-Wno-style"]
_PREFIX = "Vtop"  # as cocotb's C++ main wants it
_HEADER = re.compile(rf"^module {TOP}\((.*?)\);", re.MULTILINE | re.DOTALL)


def require_simulator(simulator: str) -> None:
    """Skip the running test if `simulator` is not installed. `TritapeError` for one that the bench does not know."""
    if simulator not in _NAMES:
        raise TritapeError(f"simulator must be one of {list(_NAMES)}, not {simulator!r}")
    if simulator == "icarus" and not simulators.have_icarus():
        pytest.skip("iverilog is not on PATH (Debian: apt install iverilog)")


def build_bench(verilog: str, simulator: str) -> Path:
    """Folder of the built simulation of the module `bench`; from the cache if the same text was built before.

    cocotb sees the ports of `bench` and nothing else: Verilator may then optimise what is inside. Raises `TritapeError`
    with the end of the log if the simulator refuses the text.
    """
    if simulator == "verilator":
        key = digest(verilog, simulator, build_key(QUICK), simulators.cocotb_version(), *_VERILATE)
        return cached("bench", key, functools.partial(_verilate, verilog))
    key = digest(verilog, simulator, simulators.icarus_version(), simulators.cocotb_version())
    return cached("bench", key, functools.partial(_compile_for_icarus, verilog))


def _verilate(verilog: str, folder: Path) -> None:
    main = (cocotb_config.share_dir / "lib" / "verilator" / "verilator.cpp").read_text()
    libraries = cocotb_config.libs_dir
    try:
        executable = build_executable(
            folder,
            _HEADER.sub(_public_ports, verilog),
            TOP,
            prefix=_PREFIX,
            options=_VERILATE,
            sources={"cocotb_main.cpp": main},
            flags=QUICK,
            libraries=[f"-Wl,-rpath,{libraries}", f"-L{libraries}", "-lcocotbvpi_verilator"],
        )
    except TritapeError as error:
        raise TritapeError(f"verilator must accept the design, not fail: {error}") from error
    executable.rename(folder / TOP)  # where cocotb's runner looks


def _public_ports(header: re.Match[str]) -> str:
    ports = ", ".join(f"{port} /*verilator public_flat_rw*/" for port in header.group(1).split(","))
    return f"module {TOP}({ports});"


def _compile_for_icarus(verilog: str, folder: Path) -> None:
    source, log = folder / f"{TOP}.v", folder / "build.log"
    source.write_text(verilog)
    try:
        get_runner("icarus").build(
            sources=[source], hdl_toplevel=TOP, build_dir=folder, log_file=log, always=True, build_args=[]
        )
    except (RuntimeError, SystemExit) as error:
        raise TritapeError(f"icarus must accept the design, not fail: {error}\n{log_tail(log)}") from error


@contextlib.contextmanager
def work_folder() -> Iterator[Path]:
    """A temporary folder for one run."""
    with tempfile.TemporaryDirectory(prefix="tritape-bench-") as folder:
        yield Path(folder)


def run_bench(
    build: Path,
    simulator: str,
    module: str,
    work: Path,
    *,
    path: Sequence[Path],
    plusargs: Sequence[str] = (),
    environment: Mapping[str, str] = {},
) -> Path:
    """Run the cocotb tests of `module`, found on `path`, in the folder `work`; returns the log.

    Neither a failing test nor one that could not begin raises: the module leaves its answer in a file.
    """
    log = work / "run.log"
    extra = {**simulators.cocotb_env(), **environment}
    before, sys.path[:] = sys.path[:], [*map(str, path), *sys.path]  # the runner hands sys.path to the simulator
    try:
        with contextlib.suppress(RuntimeError, SystemExit), simulators.environment(_libpython()):
            get_runner(simulator).test(
                test_module=module,
                hdl_toplevel=TOP,
                hdl_toplevel_lang="verilog",
                build_dir=build,
                test_dir=work,
                results_xml=str(work / "results.xml"),
                log_file=log,
                plusargs=list(plusargs),
                extra_env=extra,
            )
    finally:
        sys.path[:] = before
    return log


@functools.cache
def _libpython() -> dict[str, str]:
    """Tells cocotb's runner where Python's library is: it would search for it, with programs of its own, in every run."""
    found = find_libpython.find_libpython()
    return {"LIBPYTHON_LOC": found} if found else {}


def log_tail(log: Path, lines: int = 40) -> str:
    """The last lines of a log."""
    return "\n".join(log.read_text(errors="replace").splitlines()[-lines:]) if log.is_file() else "(no log)"
