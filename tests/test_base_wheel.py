"""The package as people install it: a source archive, a wheel of it in a fresh environment, and its commands outside a clone."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import sysconfig
import tarfile
import zipfile
from pathlib import Path

import pytest

from tritape.rtl_gen.archive import outdated, read_archive

ROOT = Path(__file__).parent.parent
FLOORS = ("base", "bitstreams", "cli", "host", "hw", "model", "rtl_gen", "sim", "train")
BUILD = """
import sys, zlib
from setuptools import build_meta
slow = zlib.compressobj  # level 9, which setuptools takes, needs half a minute for these weights
zlib.compressobj = lambda level, *rest, **named: slow(1, *rest, **named)
print(build_meta.{}(sys.argv[1]))
"""

pytestmark = pytest.mark.slow


def run(*command: object, cwd: Path, **environment: str) -> str:
    """What a command prints; it must succeed. It sees neither the clone nor this environment's settings."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "COV_"))}
    done = subprocess.run(
        [str(part) for part in command], cwd=cwd, env={**kept, **environment}, capture_output=True, text=True, check=False
    )  # fmt: skip
    assert done.returncode == 0, f"{command}: {done.stdout[-2000:]}{done.stderr[-3000:]}"
    return done.stdout


@pytest.fixture(scope="module")
def archives(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A source archive of a copy of the clone, and a wheel of what is in that archive."""
    copy, out = tmp_path_factory.mktemp("clone"), tmp_path_factory.mktemp("dist")
    for name in ("tritape", *FLOORS):
        shutil.copytree(ROOT / name, copy / name, symlinks=True, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, copy)
    source = out / run(sys.executable, "-c", BUILD.format("build_sdist"), out, cwd=copy).split()[-1]
    with tarfile.open(source) as archive:
        archive.extractall(out, filter="data")
    unpacked = out / source.name.removesuffix(".tar.gz")
    wheel = out / run(sys.executable, "-c", BUILD.format("build_wheel"), out, cwd=unpacked).split()[-1]
    return source, wheel


@pytest.fixture(scope="module")
def home(archives: tuple[Path, Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A fresh environment with the wheel, which finds all other packages in this one; the clone is not on its path."""
    folder = tmp_path_factory.mktemp("home")
    run(sys.executable, "-m", "venv", "--without-pip", folder / "venv", cwd=folder)
    python = folder / "venv/bin/python"
    run(
        sys.executable, "-m", "pip", "--python", python, "install", "--no-deps", "--no-index", archives[1], cwd=folder
    )  # fmt: skip
    packages = Path(run(python, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))", cwd=folder).strip())
    (packages / "others.pth").write_text(sysconfig.get_path("purelib") + "\n")
    return folder


def test_the_wheel_has_every_file_of_the_package(archives: tuple[Path, Path]) -> None:
    """Sources, models, bitstreams, kernels and pages; notes for readers of the repository stay behind."""
    with zipfile.ZipFile(archives[1]) as wheel:
        names = {name.removeprefix("tritape/") for name in wheel.namelist() if name.startswith("tritape/")}
    wanted = {
        path.relative_to(ROOT).as_posix()
        for floor in FLOORS
        for path in (ROOT / floor).rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    assert wanted - names <= {"bitstreams/README.md"}
    assert names - wanted == {"__init__.py", "py.typed"}


def test_the_source_archive_has_what_the_wheel_is_made_of(archives: tuple[Path, Path]) -> None:
    with tarfile.open(archives[0]) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    assert {
        "pyproject.toml",
        "README.md",
        "LICENSE",
        "tritape/hw/accelerator.py",
        "tritape/bitstreams/icebreaker.zip",
    } <= names


def test_the_package_is_the_installed_one(home: Path) -> None:
    where = "import tritape; from tritape.base.package import git_revision as g; print(tritape.__file__, g())"
    file, revision = run(home / "venv/bin/python", "-c", where, cwd=home).split()
    assert Path(file).is_relative_to(home)
    assert revision == "None"


def test_boards_and_their_bitstreams(home: Path) -> None:
    said = run(home / "venv/bin/tritape", "boards", "--json", "boards.json", cwd=home)
    boards = json.loads((home / "boards.json").read_text())
    assert len(said.splitlines()) == len(boards) + 1 >= 20
    archives = "from tritape.rtl_gen.archive import FOLDER; print(*sorted(p.stem for p in FOLDER.glob('*.zip')))"
    found = run(home / "venv/bin/python", "-c", archives, cwd=home).split()
    assert found == sorted(board["board"] for board in boards if board["state"] != "not built")
    assert len(found) >= 20


def test_program(home: Path) -> None:
    """What comes with the package is loaded, or named as made for another version of the protocol, never loaded then."""
    loader = home / "tools/openFPGALoader"
    loader.parent.mkdir()
    loader.write_text("#!/bin/sh\n")
    loader.chmod(0o755)
    python = home / "venv/bin/python"
    path = f"{loader.parent}{os.pathsep}{os.environ['PATH']}"
    folder = Path(run(python, "-c", "from tritape.rtl_gen.archive import FOLDER; print(FOLDER)", cwd=home).strip())
    versions = {archive.stem: read_archive(archive)[0] for archive in sorted(folder.glob("ulx3s*.zip"))}
    current = [name for name, about in versions.items() if not outdated(about)]
    assert "ulx3s-25f" in current
    for name in versions:
        command = [home / "venv/bin/tritape", "program", name, folder / f"{name}.zip", "--dry-run"]
        if name in current:
            assert run(*command, cwd=home, PATH=path).split()[:2] == [str(loader), "-b"]
        else:
            done = subprocess.run(
                [str(part) for part in command],
                cwd=home,
                env={**os.environ, "PATH": path},
                capture_output=True,
                text=True,
            )
            assert done.returncode == 2
            assert f"run: tritape build {name}" in done.stderr


def test_files_and_text(home: Path) -> None:
    """Hardware as Verilog, help of a build, the models that come with the package, and text from simulated hardware."""
    tritape = home / "venv/bin/tritape"
    assert "configuration" in run(tritape, "verilog", "-o", "out", "--groups", 4, cwd=home)
    assert "endmodule" in (home / "out/tritape.v").read_text()
    assert "--seeds" in run(tritape, "build", "--help", cwd=home, COLUMNS="200")
    assert "projected" in run(tritape, "estimate", "small", cwd=home)
    said = run(
        tritape, "generate", "It is", "--model", "tiny", "--groups", 4, "--tokens", 2, "--json", "text.json", cwd=home
    )
    assert said.startswith("It is")
    assert json.loads((home / "text.json").read_text())["difference"] is None


@pytest.mark.long
def test_a_board_runs(home: Path) -> None:
    """`run` against a virtual board, both from the wheel."""
    tritape = home / "venv/bin/tritape"
    board = subprocess.Popen(
        [tritape, "board", "icebreaker", "--pty"], cwd=home, stdout=subprocess.PIPE, text=True
    )  # fmt: skip
    try:
        assert board.stdout is not None
        port = board.stdout.readline().strip()
        said = run(
            tritape, "run", "--port", port, "--board", "icebreaker", "It is", "--tokens", 2, "--json", "run.json", cwd=home
        )  # fmt: skip
    finally:
        board.terminate()
        board.wait(30)
    assert said.startswith("It is")
    assert json.loads((home / "run.json").read_text())["tokens"] == 2
