"""Digilent Arty A7: Artix-7, 100 MHz oscillator, FT2232H. Pins: `amaranth_boards.arty_a7`. Built by Vivado."""

from __future__ import annotations

from amaranth_boards.arty_a7 import ArtyA7_35Platform, ArtyA7_100Platform

from tritape.hw.config import Config
from tritape.hw.memory.pages import PagedMemory
from tritape.rtl_gen.boards.board import Board

ARTY_A7_35T = Board(
    name="arty-a7-35t",
    title="Digilent Arty A7-35T",
    platform=ArtyA7_35Platform,
    config=Config(groups=8, max_hidden=128, max_intermediate=384, max_layers=4, max_vocab=512),
    memory_words=16_384,
    clock_hz=80_000_000,
    baud=2_000_000,
    link="FT2232H",
    model="tiny",
    leds=(("led", 0), ("led", 1)),
)

ARTY_A7_100T = Board(
    name="arty-a7-100t",
    title="Digilent Arty A7-100T",
    platform=ArtyA7_100Platform,
    config=Config(groups=26, max_hidden=256, max_intermediate=512, max_layers=8, max_vocab=1024),
    memory_words=14_848,
    make_memory=PagedMemory,
    clock_hz=80_000_000,
    baud=2_000_000,
    link="FT2232H",
    model="small",
    leds=(("led", 0), ("led", 1)),
)
