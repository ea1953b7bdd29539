"""Muse Lab iCESugar-Pro: ECP5 on a SODIMM, 25 MHz crystal, UART of the iCELink. Pins: `amaranth_boards.icesugar_pro`."""

from __future__ import annotations

from amaranth_boards.icesugar_pro import ICESugarProPlatform

from tritape.hw.config import Config
from tritape.rtl_gen.boards.board import Board, in_dram
from tritape.rtl_gen.litedram import DRAMS

ICESUGAR_PRO = Board(
    name="icesugar-pro",
    title="Muse Lab iCESugar-Pro",
    platform=ICESugarProPlatform,
    config=Config(groups=8, max_hidden=128, max_intermediate=384, max_layers=4, max_vocab=512),
    memory_words=6_656,
    clock_hz=75_000_000,
    baud=115_200,
    link="iCELink",
)

ICESUGAR_PRO_SDRAM = in_dram(ICESUGAR_PRO, DRAMS["icesugar-pro"], 32 << 20, 60_000_000)
