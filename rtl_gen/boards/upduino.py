"""tinyVision.ai UPduino 3: iCE40UP5K. Pins: `amaranth_boards.upduino_v3`.

The crystal reaches pin 20 (gpio_20) through the jumper OSC, which must be closed: the internal oscillator is not accurate
enough for a UART. The USB bridge speaks SPI only (issue 3 of the maker's repository asks for a UART), so the link is on header
pins `gpio_2` into the FPGA and `gpio_46` out of it, for a USB adapter with levels of 3.3 V.
"""

from __future__ import annotations

from typing import Any

from amaranth.build import Attrs
from amaranth_boards.resources import UARTResource
from amaranth_boards.upduino_v3 import UpduinoV3Platform

from tritape.rtl_gen.boards.board import Board
from tritape.rtl_gen.boards.icebreaker import UP5K, UP5K_MEMORIES, spram


def platform() -> Any:
    """The platform with a UART on the header."""
    made = UpduinoV3Platform()
    made.add_resources([UARTResource(0, rx="2", tx="46", attrs=Attrs(IO_STANDARD="SB_LVCMOS"))])
    return made


UPDUINO_V3 = Board(
    name="upduino-v3",
    title="tinyVision.ai UPduino 3",
    platform=platform,
    config=UP5K,
    memory_words=32_768,
    make_memory=spram,
    clock_hz=21_000_000,
    baud=1_000_000,
    link="header 2, 46",
    memory="SPRAM",
    model="tiny",
    clock="clk12",
    memory_styles=UP5K_MEMORIES,
)
