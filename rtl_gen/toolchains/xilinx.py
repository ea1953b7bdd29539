"""Xilinx 7 series: a complete Vivado project; tritape does not run Vivado. PLL limits: Xilinx DS181 (-1), UG472.

UltraScale+ parts are on a bus (`tritape.rtl_gen.boards.packages`) and need only their capacity here.
"""

from __future__ import annotations

from typing import Any

from amaranth.hdl import Const, Instance, Module, Signal
from amaranth.lib import io

from tritape.base.errors import TritapeError
from tritape.rtl_gen.toolchains.pll import PLL, Limits
from tritape.rtl_gen.toolchains.toolchain import Capacity, Toolchain

CAPACITY = {
    name: Capacity(luts, 2 * luts, brams, dsps, 18 * 1024)
    for name, luts, brams, dsps in (
        ("xc7a35t", 20800, 100, 90),
        ("xc7a100t", 63400, 270, 240),
        ("xck26", 117120, 288, 1248),
        ("xcu250", 1728000, 5376, 12288),
        ("xcu280", 1303680, 4032, 9024),
    )
}
"""By the beginning of a part's name; a block RAM of 36 kbit counts as two, and the Alveo cards are what they have before the
shell takes its share. LUTs have six inputs. Xilinx DS180, DS987 (Kria K26), DS962 (U250), DS963 (U280)."""


class Xilinx(Toolchain):
    """Artix-7."""

    family = "xilinx"
    packages = ()
    constraints = "xdc"
    bitstream = "zip"
    open_source = False

    def pll_limits(self, platform: Any) -> Limits:
        return Limits(
            detector=(19e6, 450e6),
            vco=(800e6, 1600e6),
            divide=range(1, 57),
            multiply=range(2, 65),
            post=range(1, 129),
            output=(6.25e6, 800e6),
            multiply_with_post=True,
        )

    def pll(self, platform: Any, setting: PLL, input_hz: int, crystal: Any, output: Signal, locked: Signal) -> Module:
        m = Module()
        m.submodules.crystal = source = io.Buffer("i", crystal)
        feedback, raw = Signal(), Signal()
        m.submodules.pll = Instance(
            "PLLE2_BASE",
            p_CLKIN1_PERIOD=1e9 / input_hz,
            p_DIVCLK_DIVIDE=setting.divide,
            p_CLKFBOUT_MULT=setting.multiply,
            p_CLKOUT0_DIVIDE=setting.post,
            i_CLKIN1=source.i,
            i_CLKFBIN=feedback,
            i_RST=Const(0),
            i_PWRDWN=Const(0),
            o_CLKFBOUT=feedback,
            o_CLKOUT0=raw,
            o_LOCKED=locked,
        )
        m.submodules.buffer = Instance("BUFG", i_I=raw, o_O=output)
        return m

    def capacity(self, platform: Any) -> Capacity:
        return part_capacity(platform.device)


def part_capacity(device: str) -> Capacity:
    """What a part has, by the beginning of its name. Raises `TritapeError` for one that is not known."""
    for name, capacity in CAPACITY.items():
        if device.startswith(name):
            return capacity
    raise TritapeError(f"device must be one of {list(CAPACITY)}, not {device!r}; choose another")
