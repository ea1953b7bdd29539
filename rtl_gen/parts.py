"""Devices that a design point may be chosen for, and what each has."""

from __future__ import annotations

from dataclasses import dataclass

from tritape.base.errors import TritapeError
from tritape.rtl_gen.toolchains import ecp5, xilinx


@dataclass(frozen=True)
class Part:
    """A device: `luts` of so many inputs (`lut_inputs`), flip-flops, block RAMs of 18 kbit (1024 x 18 or 512 x 36), multipliers.
    `family`: as Yosys calls it. `regions`: super logic regions with a memory channel each, on a card whose replicas are chosen
    (`tritape.rtl_gen.replicas`); the numbers are then what the shell leaves of all regions together, `urams` UltraRAMs among
    them. What else it has is not used."""

    name: str
    title: str
    family: str
    lut_inputs: int
    luts: int
    brams: int
    dsps: int
    urams: int = 0
    regions: int = 1


_KNOWN = (
    ("ecp5-25", "LFE5U-25F", "ecp5", 4, ecp5.CAPACITY["25F"]),
    ("ecp5-45", "LFE5U-45F", "ecp5", 4, ecp5.CAPACITY["45F"]),
    ("ecp5-85", "LFE5U-85F", "ecp5", 4, ecp5.CAPACITY["85F"]),
    ("xc7a35t", "Artix-7 35T", "xc7", 6, xilinx.CAPACITY["xc7a35t"]),
    ("xc7a100t", "Artix-7 100T", "xc7", 6, xilinx.CAPACITY["xc7a100t"]),
    ("xck26", "Kria K26 (KV260)", "xcup", 6, xilinx.CAPACITY["xck26"]),
    ("xcu280", "Alveo U280", "xcup", 6, xilinx.CAPACITY["xcu280"]),
)
PARTS = {
    name: Part(name, title, family, inputs, capacity.luts, capacity.brams, capacity.dsps)
    for name, title, family, inputs, capacity in _KNOWN
} | {
    # Four times the smallest region of the platform xilinx_u250_xdma_201830_2: 344,533 LUTs, 500 block RAMs of 36 kbit,
    # 2,877 DSPs, 320 UltraRAMs, one channel of DDR4-2400 (source: ThunderGP, automation/devices/xilinx_u250_xdma_201830_2.h).
    "xcu250": Part("xcu250", "Alveo U250", "xcup", 6, 4 * 344_533, 4 * 1000, 4 * 2877, 4 * 320, 4)
}


def part(name: str) -> Part:
    """The part of this name. Raises `TritapeError` with the names that are known."""
    if name not in PARTS:
        raise TritapeError(f"part must be one of {', '.join(PARTS)}, not {name!r}; choose one of them")
    return PARTS[name]
