"""Radiona ULX3S: ECP5, 25 MHz crystal, FT231X. Pins: `amaranth_boards.ulx3s`, equal to the maker's ulx3s_v20.lpf."""

from __future__ import annotations

from dataclasses import replace

from amaranth_boards.ulx3s import ULX3S_25F_Platform, ULX3S_85F_Platform

from tritape.hw.config import Config
from tritape.hw.memory.pages import PagedMemory
from tritape.rtl_gen.boards.board import Board, in_dram
from tritape.rtl_gen.litedram import DRAMS

ULX3S_85F = Board(
    name="ulx3s-85f",
    title="Radiona ULX3S with LFE5U-85F",
    platform=ULX3S_85F_Platform,
    config=Config(groups=26, max_hidden=256, max_intermediate=512, max_layers=8, max_vocab=1024),
    memory_words=11_264,
    make_memory=PagedMemory,
    clock_hz=80_000_000,
    baud=2_000_000,
    link="FT231X",
    model="small",
    leds=(("led", 0), ("led", 1)),
)

ULX3S_85F_SPARSE = replace(
    ULX3S_85F,
    name="ulx3s-85f-sparse",
    title="Radiona ULX3S with LFE5U-85F, 3:4 weights",
    config=Config(
        groups=20, engines=2, code="sparse4", max_hidden=256, max_intermediate=768, max_layers=8, max_vocab=1024
    ),
    memory_words=8_704,
    clock_hz=70_000_000,
    model="small-sparse",
)

ULX3S_25F = Board(
    name="ulx3s-25f",
    title="Radiona ULX3S with LFE5U-25F",
    platform=ULX3S_25F_Platform,
    config=Config(groups=8, max_hidden=128, max_intermediate=384, max_layers=4, max_vocab=512),
    memory_words=6_656,
    clock_hz=75_000_000,
    baud=2_000_000,
    link="FT231X",
    leds=(("led", 0), ("led", 1)),
)

ULX3S_85F_SDRAM = in_dram(ULX3S_85F, DRAMS["ulx3s"], 32 << 20, 60_000_000)
