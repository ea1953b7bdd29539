"""Sipeed Tang Nano 9K: GW1NR-9C, 27 MHz crystal, BL702 bridge. Pins: `amaranth_boards.tang_nano_9k`."""

from __future__ import annotations

from amaranth_boards.tang_nano_9k import TangNano9kPlatform

from tritape.rtl_gen.boards.board import Board
from tritape.rtl_gen.boards.icebreaker import UP5K

TANG_NANO_9K = Board(
    name="tang-nano-9k",
    title="Sipeed Tang Nano 9K",
    platform=TangNano9kPlatform,
    config=UP5K,
    memory_words=6_144,
    clock_hz=54_000_000,
    baud=1_000_000,
    link="BL702",
    leds=(("led", 0), ("led", 1)),
)
