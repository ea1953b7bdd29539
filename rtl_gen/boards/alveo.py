"""AMD Alveo U280: 8 GB of HBM in 32 channels. Built by Vitis."""

from __future__ import annotations

from tritape.hw.config import Config
from tritape.rtl_gen.boards.bus_board import BusBoard
from tritape.rtl_gen.boards.packages.vitis import ADDRESS_BITS, vitis_files

U280 = BusBoard(
    name="u280",
    title="AMD Alveo U280",
    device="xcu280-fsvh2892-2L-e",
    # The limits of the released 2.7B model. A word of the tape must fit into a frame of the host link, so four channels.
    config=Config(
        groups=32, engines=4, max_hidden=2560, max_intermediate=6912, max_layers=32, max_vocab=32768, max_rows=2048
    ),
    memory_words=4_980_736,
    clock_hz=300_000_000,
    ports=4,
    port_bits=256,
    address_bits=ADDRESS_BITS,
    files=vitis_files,
    main="Makefile",
    link="AXI4-Lite, XRT",
    memory="HBM2",
    details={"platform": "xilinx_u280_gen3x16_xdma_1_202211_1"},
)
