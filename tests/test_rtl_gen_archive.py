"""Archives: what was written is read, damage is found, and states follow the manifests."""

from __future__ import annotations

import json
import zipfile
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest

from tritape.base.errors import TritapeError
from tritape.base.run import StepError
from tritape.cli import bitstreams
from tritape.hw.config import Config
from tritape.rtl_gen import archive
from tritape.rtl_gen.boards import Board, board
from tritape.rtl_gen.build import BuildResult

BOARD = board("ulx3s-85f")
NUMBERS = {"luts": 10, "ffs": 20, "brams": 3, "dsps": 4, "fmax_mhz": 81.5, "timing_met": True, "seed": 2}
CONTENT = bytes(range(256)) * 40


def write(folder: Path, made: object = BOARD, **numbers: object) -> Path:
    path = folder / f"{made.name}.zip"
    files = {"x.bit": CONTENT}
    archive.write_archive(path, archive.manifest(made, files, "x.bit", {"yosys": "1"}, **numbers), files)
    return path


def test_round_trip_and_equal_bytes(tmp_path: Path) -> None:
    path = write(tmp_path, **NUMBERS)
    about, content = archive.read_archive(path)
    assert content == CONTENT
    assert about["configuration_hash"] == f"{BOARD.config.hash64():016x}"
    assert {key: about[key] for key in NUMBERS} == NUMBERS
    assert about["limits"]["groups"] == BOARD.config.groups
    first = path.read_bytes()
    assert write(tmp_path, **NUMBERS).read_bytes() == first


def test_state_follows_the_manifest(tmp_path: Path) -> None:
    assert archive.state(BOARD, tmp_path) == "not built"
    write(tmp_path)
    assert archive.state(BOARD, tmp_path) == "generated, not routed"
    write(tmp_path, **NUMBERS)
    assert archive.state(BOARD, tmp_path) == "routed"
    about, content = archive.read_archive(path := write(tmp_path, **NUMBERS))
    archive.write_archive(path, {**about, "protocol_version": 2}, {about["bitstream"]: content})
    assert archive.state(BOARD, tmp_path) == "to be built again"
    write(tmp_path, **NUMBERS)
    other = replace(BOARD, config=Config(groups=5))
    assert archive.state(other, tmp_path) == "not built"


@pytest.mark.parametrize("cut", [1, 100, 5000])
def test_truncation_is_found(tmp_path: Path, cut: int) -> None:
    path = write(tmp_path, **NUMBERS)
    path.write_bytes(path.read_bytes()[:-cut])
    with pytest.raises(
        TritapeError, match=r"archive must be a zip file of manifest and bitstream, not BadZipFile; build"
    ):
        archive.read_archive(path)


def test_damage_and_foreign_files_are_found(tmp_path: Path) -> None:
    path = tmp_path / "a.zip"
    with pytest.raises(TritapeError, match=r"archive must exist, not be missing; run: tritape build BOARD"):
        archive.read_archive(path)
    with zipfile.ZipFile(path, "w") as foreign:
        foreign.writestr("readme", "hello")
    with pytest.raises(
        TritapeError, match=r"archive must be a zip file of manifest and bitstream, not KeyError; build"
    ):
        archive.read_archive(path)
    about, _ = archive.read_archive(write(tmp_path, **NUMBERS))
    archive.write_archive(path, {**about, "crc32": "00000000"}, {"x.bit": CONTENT})
    with pytest.raises(TritapeError, match=r"CRC-32 of x\.bit must be 00000000, not [0-9a-f]{8}; build"):
        archive.read_archive(path)
    archive.write_archive(path, {**about, "format": 9}, {"x.bit": CONTENT})
    with pytest.raises(TritapeError, match=r"manifest must be of format 1, not format 9; build"):
        archive.read_archive(path)
    archive.write_archive(path, {"format": 1}, {})
    with pytest.raises(
        TritapeError, match=r"not one without board, bitstream, crc32, configuration_hash, state; build"
    ):
        archive.read_archive(path)


def test_readme_has_a_row_for_each_archive(tmp_path: Path) -> None:
    write(tmp_path, **NUMBERS)
    write(tmp_path, board("arty-a7-35t"))
    bitstreams.write_readme(tmp_path)
    rows = [line for line in (tmp_path / "README.md").read_text().splitlines() if line.startswith("| ")]
    assert rows[0] == f"| {' | '.join(bitstreams.COLUMNS)} |"
    assert len(rows) == 3
    assert all(row.count("|") == rows[0].count("|") for row in rows)
    assert rows[1].startswith("| arty-a7-35t | xc7a35ti | generated, not routed | 80 |  |  |")
    assert f"| routed | {BOARD.clock_hz / 1e6:g} | 81.5 | 10 | 20 | 3 | 4 |" in rows[2]


def test_archives_of_this_clone() -> None:
    """Every archive is whole, small enough, met its clock, and is of a board that there is."""
    for path in archive.FOLDER.glob("*.zip"):
        about, content = archive.read_archive(path)
        assert path.stat().st_size <= archive.MAX_BYTES
        assert about["board"] == path.stem == board(path.stem).name
        assert about["bytes"] == len(content)
        if about["state"] == archive.ROUTED:
            assert about["timing_met"] is True
            assert about["fmax_mhz"] >= about["clock_hz"] / 1e6
        json.dumps(about)


def test_a_board_that_fails_does_not_stop_the_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def build(made: Board, folder: Path, **_: object) -> BuildResult:
        if made.name == "icebreaker":
            raise StepError(made.name, "synthesise", "yosys", "one\nERROR: too large\ntwo")
        path = write(folder, made, **NUMBERS)
        return BuildResult(made.name, "", str(path), 80.0, 81.5, True, 1, 2, 3, 4, 5, None, "", 0.0)

    monkeypatch.setattr(bitstreams, "build", build)
    monkeypatch.setattr(bitstreams, "FOLDER", tmp_path)
    monkeypatch.setattr(bitstreams, "ProcessPoolExecutor", ThreadPoolExecutor)
    assert bitstreams.main(["icebreaker", "ulx3s-25f"]) == 1
    assert {path.name for path in tmp_path.iterdir()} == {"README.md", "ulx3s-25f.zip"}
    output = capsys.readouterr().out
    assert "one\nERROR: too large\ntwo\nFAILED icebreaker: synthesise must succeed" in output
    assert output.endswith("failed: icebreaker\n")
    monkeypatch.setattr(bitstreams, "MAX_BYTES", 10)
    assert bitstreams.main(["ulx3s-25f"]) == 1
    assert "archive must be at most 10 bytes, not" in capsys.readouterr().out
