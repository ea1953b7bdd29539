"""IcePi Zero 1.3: ECP5, 50 MHz crystal, FT231X. Pins: `amaranth_boards.icepi_zero`."""

from __future__ import annotations

from amaranth_boards.icepi_zero import IcepiZero1_3Platform

from tritape.hw.config import Config
from tritape.rtl_gen.boards.board import Board, in_dram
from tritape.rtl_gen.litedram import DRAMS

ICEPI_ZERO = Board(
    name="icepi-zero",
    title="IcePi Zero 1.3",
    platform=IcepiZero1_3Platform,
    config=Config(groups=8, max_hidden=128, max_intermediate=384, max_layers=4, max_vocab=512),
    memory_words=6_656,
    clock_hz=75_000_000,
    baud=2_000_000,
    link="FT231X",
    leds=(("led", 0), ("led", 1)),
)

ICEPI_ZERO_SDRAM = in_dram(ICEPI_ZERO, DRAMS["icepi-zero"], 32 << 20, 60_000_000)
