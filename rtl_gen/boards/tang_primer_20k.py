"""Sipeed Tang Primer 20K: GW2A-18C, 27 MHz crystal, bridge of the Dock. Pins: `amaranth_boards.tang_primer_20k`."""

from __future__ import annotations

from amaranth_boards.tang_primer_20k import TangPrimer20kDockPlatform

from tritape.hw.config import Config
from tritape.rtl_gen.boards.board import Board

TANG_PRIMER_20K = Board(
    name="tang-primer-20k",
    title="Sipeed Tang Primer 20K on its Dock",
    platform=TangPrimer20kDockPlatform,
    config=Config(groups=4, max_hidden=128, max_intermediate=384, max_layers=4, max_vocab=512),
    memory_words=10_240,
    clock_hz=54_000_000,
    baud=1_000_000,
    link="BL616",
    leds=(("led", 0), ("led", 1)),
)
