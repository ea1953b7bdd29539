"""OrangeCrab r0.2: ECP5, 48 MHz oscillator. Pins: `amaranth_boards.orangecrab_r0_2`.

The board has no UART: its USB socket goes to the FPGA itself. The link is on the Feather header, `0` into the FPGA and `1`
out of it, for a USB adapter with levels of 3.3 V.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any, ClassVar

from amaranth.build import Attrs, DiffPairs, Pins, PinsN, Resource, Subsignal
from amaranth_boards.orangecrab_r0_2 import OrangeCrabR0_2_25FPlatform
from amaranth_boards.resources import UARTResource

from tritape.hw.config import Config
from tritape.rtl_gen.boards.board import DRAM_CONFIGS, Board, in_dram
from tritape.rtl_gen.litedram import DRAMS

_PAIR = Attrs(IO_TYPE="SSTL135D_I", TERMINATION="OFF", DIFFRESISTOR="100")
_DDR3_PINS = Resource(
    "ddr3", 0,
    Subsignal("rst", PinsN("L18", dir="o")),
    Subsignal("clk", DiffPairs("J18", "K18", dir="o"), Attrs(IO_TYPE="SSTL135D_I")),
    Subsignal("clk_en", Pins("D18", dir="o")),
    Subsignal("cs", PinsN("A12", dir="o")),
    Subsignal("we", PinsN("B12", dir="o")),
    Subsignal("ras", PinsN("C12", dir="o")),
    Subsignal("cas", PinsN("D13", dir="o")),
    Subsignal("a", Pins("C4 D2 D3 A3 A4 D4 C3 B2 B1 D1 A7 C2 B6 C1 A2 C7", dir="o")),
    Subsignal("ba", Pins("D6 B7 A6", dir="o")),
    Subsignal("dqs", DiffPairs("B15 G18", "A16 H17", dir="io"), _PAIR),
    Subsignal("dq", Pins("C17 D15 B17 C16 A15 B13 A17 A13 F17 F16 G15 F15 J16 C18 H16 F18", dir="io")),
    Subsignal("dm", Pins("D16 G16", dir="o")),
    Subsignal("odt", Pins("C13", dir="o")),
    Attrs(IO_TYPE="SSTL135_I", SLEWRATE="FAST"),
)  # fmt: skip
"""As in `gsd_orangecrab` of litex-boards. Those of amaranth-boards 0.0.20 name bank pins that the package does not have, and
pair the strobes of the two lanes with each other."""


class _Platform(OrangeCrabR0_2_25FPlatform):
    resources: ClassVar = [
        _DDR3_PINS if (resource.name, resource.number) == ("ddr3", 0) else resource
        for resource in OrangeCrabR0_2_25FPlatform.resources
    ]


def platform() -> Any:
    """The platform with a UART on the header."""
    made = _Platform()
    made.add_resources(
        [UARTResource(0, rx="0", tx="1", conn=("io", 0), attrs=Attrs(IO_TYPE="LVCMOS33", PULLMODE="UP"))]
    )
    return made


ORANGECRAB = Board(
    name="orangecrab-r0.2",
    title="OrangeCrab r0.2 with LFE5U-25F",
    platform=platform,
    config=Config(groups=8, max_hidden=128, max_intermediate=384, max_layers=4, max_vocab=512),
    memory_words=6_656,
    clock_hz=96_000_000,
    baud=2_000_000,
    link="header 0, 1",
)

ORANGECRAB_DDR3 = in_dram(
    ORANGECRAB,
    DRAMS["orangecrab"],
    128 << 20,
    72_000_000,
    config=replace(DRAM_CONFIGS["DDR3"], max_intermediate=720),
    memory_styles=(("*activation_memory*/memory_*", "distributed"),),
)
