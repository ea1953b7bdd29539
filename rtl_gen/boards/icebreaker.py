"""1BitSquared iCEBreaker: iCE40UP5K, 12 MHz crystal, FT2232H. Pins: `amaranth_boards.icebreaker`."""

from __future__ import annotations

from amaranth_boards.icebreaker import ICEBreakerPlatform

from tritape.hw.config import Config
from tritape.hw.memory.spram import SPRAMMemory
from tritape.rtl_gen.boards.board import Board, TapeFlash, in_flash


def spram(groups: int, _words: int) -> SPRAMMemory:
    """All of the device's single-port RAM; a model of it in simulation."""
    return SPRAMMemory(groups, primitive=None)


UP5K = Config(
    groups=4,
    tables_per_filler=2,
    max_hidden=128,
    max_intermediate=320,
    max_layers=4,
    max_vocab=512,
    max_rows=512,
    serial=True,
)
"""What an iCE40UP5K has room for."""
UP5K_MEMORIES = (("operations", "block"),)
"""Cells are what it lacks, so the program of the vector unit goes into the two block RAMs that are left of 30."""

ICEBREAKER = Board(
    name="icebreaker",
    title="1BitSquared iCEBreaker",
    platform=ICEBreakerPlatform,
    config=UP5K,
    memory_words=32_768,
    make_memory=spram,
    clock_hz=24_000_000,
    baud=1_000_000,
    link="FT2232H",
    memory="SPRAM",
    model="tiny",
    leds=(("led_g", 0), ("led_r", 0)),
    memory_styles=UP5K_MEMORIES,
)

ICEBREAKER_FLASH = in_flash(ICEBREAKER, TapeFlash())
