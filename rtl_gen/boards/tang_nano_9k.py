"""Sipeed Tang Nano 9K: GW1NR-9C, 27 MHz crystal, BL702 bridge. Pins: `amaranth_boards.tang_nano_9k`."""

from __future__ import annotations

from amaranth_boards.tang_nano_9k import TangNano9kPlatform

from tritape.hw.config import Config
from tritape.hw.memory.pages import PagedMemory
from tritape.rtl_gen.boards.board import Board


def pages(groups: int, words: int) -> PagedMemory:
    """Pages of one block RAM each, 512 x 36: 19 of the 26, where Yosys would take 20 of 1024 x 18."""
    return PagedMemory(groups, words, page=512)


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
        max_rows=256,
        serial=True,
    ),
    memory_words=9_728,
    make_memory=pages,
    memory_styles=(("table_*", "distributed"), ("script", "logic")),
    clock_hz=54_000_000,
    baud=1_000_000,
    link="BL702",
    leds=(("led", 0), ("led", 1)),
)
