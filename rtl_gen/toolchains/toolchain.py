"""What a build needs to know about a family of devices: its PLL, and the commands from netlist to bitstream."""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from amaranth.hdl import Module, Signal

from tritape.base.errors import TritapeError
from tritape.base.run import tool_version
from tritape.rtl_gen.toolchains.pll import PLL, Limits, settings

# The adders with a sign (`AddSub`) are one carry chain each: alumacc makes an $alu of the sum and one of the difference, and
# share merges them. It runs on those modules only: elsewhere it would share adders through multiplexers.
SHARE_ADDERS = """\
select *addsub*
proc
opt
alumacc
share -aggressive
opt
select -clear
"""


@dataclass(frozen=True)
class Capacity:
    """What a device has: LUT4s, flip-flops, block RAMs of `bram_bits`, multipliers."""

    luts: int
    ffs: int
    brams: int
    dsps: int
    bram_bits: int


@dataclass(frozen=True)
class Usage:
    """Cells of a routed design, and MHz of its slowest clock."""

    luts: int
    ffs: int
    brams: int
    dsps: int
    fmax_mhz: float


def module_and_memory(pattern: str) -> tuple[str, str]:
    """The two patterns of an entry of `Board.memory_styles`: `NAME` is that memory in any module."""
    module, slash, name = pattern.partition("/")
    return (module, name) if slash else ("*", pattern)


class Toolchain(ABC):
    """One family. Subclasses hold facts; `tritape.rtl_gen.build` has the steps."""

    family: str
    packages: tuple[str, ...]
    """Python packages whose versions make the result."""
    constraints: str
    """File that the platform writes with the pins: `top.SUFFIX`."""
    bitstream: str
    """Suffix of the bitstream."""
    place_tool: str
    pack_tool: str
    open_source: bool = True
    cells: dict[str, dict[str, int]]
    """For `luts`, `ffs`, `brams` and `dsps`: the cells in nextpnr's report that are counted, and as how many."""

    @abstractmethod
    def pll_limits(self, platform: Any) -> Limits:
        """Limits of the device's PLL."""

    @abstractmethod
    def pll(self, platform: Any, setting: PLL, input_hz: int, crystal: Any, output: Signal, locked: Signal) -> Module:
        """The PLL, and the input buffer between it and the port `crystal`."""

    @abstractmethod
    def capacity(self, platform: Any) -> Capacity:
        """What the device has. Raises `TritapeError` for a device that is not known."""

    def settings(self, platform: Any, input_hz: int) -> tuple[PLL, ...]:
        """Every clock of whole hertz that the PLL makes from `input_hz`, ascending."""
        return settings(self.pll_limits(platform), input_hz)

    def versions(self) -> dict[str, str]:
        """Version of each package. Raises `TritapeError` naming one that is not installed."""
        return {package: tool_version(package) for package in ("amaranth", *self.packages)}

    synthesis: str
    """The Yosys command from the elaborated design to `top.json`."""

    def script(self, memory_styles: Sequence[tuple[str, str]]) -> str:
        """Yosys script from `top.v` to `top.json`; memories that match (`Board.memory_styles`) get that `ram_style`."""
        marks = ""
        for pattern, style in memory_styles:
            module, name = module_and_memory(pattern)
            marks += f"select -assert-min 1 {module}/m:{name}\n"
            marks += f'setattr -set ram_style "{style}" {module}/m:{name}\n'
        return f"read_verilog -sv top.v\nhierarchy -top top\n{marks}{SHARE_ADDERS}{self.synthesis} -top top -json top.json\n"

    def place(self, platform: Any, seed: int, mhz: float) -> list[str]:
        """Arguments of `place_tool`, from `top.json` and the constraints to `placed` and `report.json`."""
        raise NotImplementedError

    def pack(self, platform: Any) -> list[str]:
        """Arguments of `pack_tool`, from `placed` to `top.SUFFIX`."""
        raise NotImplementedError

    placed: str
    """File between `place_tool` and `pack_tool`."""
    routed = "routed.json"
    """File of `place_tool` with the netlist of packed, placed and routed cells."""

    def usage(self, report: dict[str, Any], log: str) -> Usage:
        """Numbers of nextpnr's `report.json`, which is about the routed design, and of its log.

        Raises `TritapeError` naming what the report lacks.
        """
        utilisation = report.get("utilization", {})
        counts = {}
        for name, cells in self.cells.items():
            known = [cell for cell in cells if cell in utilisation]
            if not known:
                raise TritapeError(f"nextpnr's report must count one of {list(cells)}, not {list(utilisation)[:8]}")
            counts[name] = sum(cells[cell] * int(utilisation[cell]["used"]) for cell in known)
        return Usage(**counts, fmax_mhz=slowest_clock(report))


def slowest_clock(report: dict[str, Any]) -> float:
    """MHz of the slowest clock in nextpnr's report."""
    clocks = [float(clock["achieved"]) for clock in report.get("fmax", {}).values()]
    if not clocks:
        raise TritapeError("nextpnr's report must have the frequency of a clock, not none; does the design have one?")
    return round(min(clocks), 2)


def cell_count(log: str, pattern: str) -> int:
    """Number in the last line of a log that matches `pattern` with one group."""
    found = re.findall(pattern, log)
    if not found:
        raise TritapeError(f"log must have a line like {pattern!r}, not none; the tools have changed")
    return int(found[-1])
