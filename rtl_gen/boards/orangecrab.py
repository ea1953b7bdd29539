"""OrangeCrab r0.2: ECP5, 48 MHz oscillator. Pins: `amaranth_boards.orangecrab_r0_2`.

The board has no UART: its USB socket goes to the FPGA itself. The link is on the Feather header, `0` into the FPGA and `1`
out of it, for a USB adapter with levels of 3.3 V.
"""

from __future__ import annotations

from typing import Any

from amaranth.build import Attrs
from amaranth_boards.orangecrab_r0_2 import OrangeCrabR0_2_25FPlatform
from amaranth_boards.resources import UARTResource

from tritape.hw.config import Config
from tritape.rtl_gen.boards.board import Board


def platform() -> Any:
    """The platform with a UART on the header."""
    made = OrangeCrabR0_2_25FPlatform()
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
    clock_hz=72_000_000,
    baud=2_000_000,
    link="header 0, 1",
)
