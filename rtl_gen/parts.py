"""Devices that a design point may be chosen for, and what each has."""

from __future__ import annotations

from dataclasses import dataclass

from tritape.model.errors import TritapeError


@dataclass(frozen=True)
class Part:
    """A device: `luts` of so many inputs (`lut_inputs`), flip-flops, block RAMs of 18 kbit (1024 x 18 or 512 x 36), multipliers.
    `family`: as Yosys calls it. What else it has (UltraRAM, a processor) is not used."""

    name: str
    title: str
    family: str
    lut_inputs: int
    luts: int
    brams: int
    dsps: int


PARTS = {
    part.name: part
    for part in (
        # Lattice FPGA-DS-02012, table 1.1.
        Part("ecp5-25", "LFE5U-25F", "ecp5", 4, 24_288, 56, 28),
        Part("ecp5-45", "LFE5U-45F", "ecp5", 4, 43_848, 108, 72),
        Part("ecp5-85", "LFE5U-85F", "ecp5", 4, 83_640, 208, 156),
        # Xilinx DS180; a block RAM of 36 kbit counts as two.
        Part("xc7a35t", "Artix-7 35T", "xc7", 6, 20_800, 100, 90),
        Part("xc7a100t", "Artix-7 100T", "xc7", 6, 63_400, 270, 240),
        # AMD DS987 (Kria K26: 117,120 LUTs, 144 block RAMs of 36 kbit, 1,248 DSPs).
        Part("xck26", "Kria K26 (KV260)", "xcup", 6, 117_120, 288, 1_248),
        # AMD DS963 (Alveo U280: 1,304K LUTs, 2,016 block RAMs of 36 kbit, 9,024 DSPs), before the shell takes its share.
        Part("xcu280", "Alveo U280", "xcup", 6, 1_303_680, 4_032, 9_024),
    )
}


def part(name: str) -> Part:
    """The part of this name. Raises `TritapeError` with the names that are known."""
    if name not in PARTS:
        raise TritapeError(f"part must be one of {', '.join(PARTS)}, not {name!r}; choose one of them")
    return PARTS[name]
