"""Sipeed Tang Nano 9K: GW1NR-9C, 27 MHz crystal, BL702 bridge. Pins: `amaranth_boards.tang_nano_9k`."""

from __future__ import annotations

from amaranth_boards.tang_nano_9k import TangNano9kPlatform

from tritape.hw.config import Config
from tritape.rtl_gen.boards.board import Board

TANG_NANO_9K = Board(
    name="tang-nano-9k",
    title="Sipeed Tang Nano 9K",
    platform=TangNano9kPlatform,
    config=Config(
        groups=4,
        tables_per_filler=4,
        max_hidden=64,
        max_intermediate=128,
        max_layers=4,
        max_vocab=256,
        max_rows=512,
        serial=True,
    ),
    memory_words=9_728,
    clock_hz=27_000_000,
    baud=1_000_000,
    link="BL702",
    leds=(("led", 0), ("led", 1)),
    memory_styles=(
        ("table_*", "distributed"),
        ("script", "logic"),
        ("*sigma*/table", "logic"),
        ("operations", "logic"),
    ),
)
