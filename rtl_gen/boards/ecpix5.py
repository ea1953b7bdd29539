"""LambdaConcept ECPIX-5: ECP5-5G, 100 MHz oscillator, FT2232H. Pins: `amaranth_boards.ecpix5`."""

from __future__ import annotations

from amaranth_boards.ecpix5 import ECPIX585Platform

from tritape.hw.config import Config
from tritape.hw.memory.pages import PagedMemory
from tritape.rtl_gen.boards.board import Board, in_dram
from tritape.rtl_gen.litedram import DRAMS

ECPIX5 = Board(
    name="ecpix-5",
    title="LambdaConcept ECPIX-5 with LFE5UM5G-85F",
    platform=ECPIX585Platform,
    config=Config(groups=26, max_hidden=256, max_intermediate=512, max_layers=8, max_vocab=1024),
    memory_words=11_264,
    make_memory=PagedMemory,
    clock_hz=125_000_000,
    baud=2_000_000,
    link="FT2232H",
    model="small",
)

ECPIX5_DDR3 = in_dram(ECPIX5, DRAMS["ecpix5"], 512 << 20, 75_000_000)
