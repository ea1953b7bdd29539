"""The registry: boards of this package and of others, and what a board file may get wrong."""

from __future__ import annotations

import doctest
import json
from dataclasses import replace
from importlib.metadata import EntryPoint
from pathlib import Path

import pytest
import typer
from amaranth.hdl import Signal
from amaranth.lib import io
from typer.testing import CliRunner

from tritape.base.errors import TritapeError
from tritape.cli import boards as boards_command
from tritape.cli import build as build_command
from tritape.hw.memory.pages import PagedMemory
from tritape.rtl_gen import boards as registry
from tritape.rtl_gen.boards import Board, board, boards
from tritape.rtl_gen.toolchains.pll import exactly

NAMED = {
    "ulx3s-85f", "ulx3s-85f-sparse", "ulx3s-25f", "icepi-zero", "icesugar-pro", "orangecrab-r0.2", "ecpix-5", "icebreaker",
    "upduino-v3", "ulx3s-85f-sdram", "icepi-zero-sdram", "icesugar-pro-sdram", "orangecrab-r0.2-ddr3", "ecpix-5-ddr3",
    "tang-nano-9k", "tang-primer-20k", "arty-a7-35t", "arty-a7-100t", "kv260", "kr260", "u280", "u250",
}  # fmt: skip
MINE = replace(board("ulx3s-25f"), name="mine")


def entry(monkeypatch: pytest.MonkeyPatch, value: str) -> None:
    point = EntryPoint(name="mine", value=value, group=registry.GROUP)
    monkeypatch.setattr(registry, "entry_points", lambda group: [point] if group == registry.GROUP else [])


def test_every_named_board_is_there() -> None:
    assert set(boards()) >= NAMED
    for name, made in boards().items():
        assert made.name == name
        assert made.device
        assert made.capacity.brams > 0
        if isinstance(made, Board):
            assert made.crystal_hz >= 12_000_000


def test_another_package_adds_one(monkeypatch: pytest.MonkeyPatch) -> None:
    entry(monkeypatch, f"{__name__}:MINE")
    assert board("mine") is MINE
    assert list(boards())[-1] == "mine"


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ("tritape.nowhere:X", r"^entry point 'mine' of tritape\.boards must load tritape\.nowhere:X, not fail: "),
        (f"{__name__}:NAMED", r"^entry point 'mine' of tritape\.boards must be a Board, not set; let "),
        ("tritape.rtl_gen.boards.ulx3s:ULX3S_85F", r"must have a name of its own, not 'ulx3s-85f'; rename the board$"),
    ],
)
def test_a_wrong_entry_point_is_named(monkeypatch: pytest.MonkeyPatch, value: str, message: str) -> None:
    entry(monkeypatch, value)
    with pytest.raises(TritapeError, match=message):
        boards()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"name": "My Board"}, r"^name of a board must be of a-z, 0-9 .* not 'My Board'; rename it$"),
        ({"model": "huge"}, r"^mine: model must be one of .*base, .*small.*, not 'huge'; choose one$"),
        ({"memory_words": 0}, r"^mine: memory_words must be a positive integer, not 0; set it$"),
        ({"clock_hz": 65e6}, r"^mine: clock_hz must be a positive integer, not 65000000\.0; set it$"),
        ({"baud": 10_000_000}, r"^mine: baud must be at most an eighth of clock_hz 75000000, not 10000000; lower it$"),
    ],
)
def test_wrong_values_are_named(change: dict[str, object], message: str) -> None:
    with pytest.raises(TritapeError, match=message):
        replace(MINE, **change)


def test_sdram_is_for_ecp5_and_stands_alone() -> None:
    sdram = board("ulx3s-85f-sdram")
    with pytest.raises(
        TritapeError, match=r"^ulx3s-85f-sdram: make_memory must be None beside dram; take away one of the two$"
    ):
        replace(sdram, make_memory=PagedMemory)
    with pytest.raises(TritapeError, match=r"^icebreaker: dram must be on an ECP5, not ice40; choose another memory$"):
        replace(board("icebreaker"), make_memory=None, dram=sdram.dram)


@pytest.mark.parametrize("name", ["ulx3s-85f-sdram", "icepi-zero-sdram", "icesugar-pro-sdram"])
def test_clock_of_the_sdram_is_a_quarter_late(name: str) -> None:
    """In eighths of a VCO period, of which the output has 8 * post."""
    made = board(name)
    setting = exactly(made.toolchain.settings(made.platform(), made.crystal_hz), made.clock_hz, name)
    crystal = io.SimulationPort("i", 1)
    pll = made.toolchain.pll(made.platform(), setting, made.crystal_hz, crystal, Signal(), Signal(), Signal())
    parameters = pll._named_submodules["pll"][0].parameters
    steps = [8 * parameters[f"{output}_CPHASE"] + parameters[f"{output}_FPHASE"] for output in ("CLKOP", "CLKOS")]
    assert 4 * (steps[1] - steps[0]) == 8 * setting.post
    assert parameters["CLKOS_DIV"] == parameters["CLKOP_DIV"] == setting.post


def test_unknown_board_lists_those_there_are() -> None:
    with pytest.raises(TritapeError, match=r"^board must be one of ulx3s-85f, .*, not 'ulx3s'; `tritape boards`"):
        board("ulx3s")


def test_the_example_of_the_docs() -> None:
    page = Path(__file__).parent.parent / "docs" / "boards.md"
    result = doctest.testfile(str(page), module_relative=False)
    assert result.attempted > 8
    assert result.failed == 0


command = typer.Typer()
command.command("boards")(boards_command.boards)
command.command("build")(build_command.build)


def test_the_list(tmp_path: Path) -> None:
    result = CliRunner().invoke(command, ["boards", "--json", str(tmp_path / "b.json")])
    assert result.exit_code == 0, result.output
    entries = {entry["board"]: entry for entry in json.loads((tmp_path / "b.json").read_text())}
    assert set(entries) >= NAMED
    for line in result.output.splitlines()[1:]:
        name = line.split()[0]
        assert entries[name]["state"] in line
        assert entries[name]["device"] in line
    assert entries["ulx3s-85f"]["models"]["small"]["fits"] is True
    lines = {line.split()[0]: line for line in result.output.splitlines()}
    assert lines["u280"].endswith(" 370m 487, 1.3b 142, 2.7b 71")
    assert lines["tang-nano-9k"].endswith(" nano 503")


def test_an_unknown_board_a_wrong_clock_or_weights_of_another_code_are_refused(tmp_path: Path) -> None:
    for arguments, message in (
        (["nowhere"], "board must be one of"),
        (["ulx3s-25f", "--clock", "-1"], "clock must be positive, not -1.0; give MHz"),
        (["ulx3s-85f-sparse", "--model", "nano"], "tensor lm_head.weight: row 0 must have one zero in columns "),
    ):
        result = CliRunner().invoke(command, ["build", *arguments, "-o", str(tmp_path / "out")])
        assert isinstance(result.exception, TritapeError)
        assert message in str(result.exception)
        assert not (tmp_path / "out").exists()
