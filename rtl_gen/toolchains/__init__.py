"""The families of devices, and which one a platform belongs to."""

from __future__ import annotations

from typing import Any

from amaranth.vendor import GowinPlatform, LatticePlatform, SiliconBluePlatform, XilinxPlatform

from tritape.base.errors import TritapeError
from tritape.rtl_gen.toolchains.ecp5 import ECP5
from tritape.rtl_gen.toolchains.gowin import Gowin
from tritape.rtl_gen.toolchains.ice40 import ICE40
from tritape.rtl_gen.toolchains.toolchain import Toolchain
from tritape.rtl_gen.toolchains.xilinx import Xilinx


def toolchain_for(platform: Any) -> Toolchain:
    """The toolchain of an Amaranth platform. Raises `TritapeError` for a family without one."""
    if isinstance(platform, LatticePlatform) and platform.family == "ecp5":
        return ECP5()
    if isinstance(platform, SiliconBluePlatform):
        return ICE40()
    if isinstance(platform, GowinPlatform):
        return Gowin()
    if isinstance(platform, XilinxPlatform):
        return Xilinx()
    raise TritapeError(
        f"platform must be of an ECP5, iCE40, Gowin or Xilinx device, not {type(platform).__name__}; choose another board"
    )
