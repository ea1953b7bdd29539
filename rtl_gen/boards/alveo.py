"""AMD Alveo cards, built by Vitis: U280 with 8 GB of HBM in 32 channels, U250 with four channels of DDR4-2400, one in each of its
super logic regions."""

from __future__ import annotations

from tritape.hw.config import Config
from tritape.rtl_gen.boards.bus_board import BusBoard
from tritape.rtl_gen.boards.packages.vitis import ADDRESS_BITS, Card, vitis_files

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
    details={"card": Card("xilinx_u280_gen3x16_xdma_1_202211_1", "HBM", 32, 256 << 20, 256)},
)

U250 = BusBoard(
    name="u250",
    title="AMD Alveo U250",
    device="xcu250-figd2104-2L-e",
    # The limits of the released 1.3B model; those of 2.7B leave room for seven slots in a region. A word takes what a channel
    # carries in a cycle, 64 bytes.
    config=Config(
        groups=16,
        engines=4,
        max_hidden=2048,
        max_intermediate=5632,
        max_layers=24,
        max_vocab=32768,
        max_rows=2048,
        batch=8,
    ),
    memory_words=8_388_608,
    clock_hz=300_000_000,
    ports=1,
    port_bits=512,
    address_bits=ADDRESS_BITS,
    files=vitis_files,
    main="Makefile",
    link="AXI4-Lite, XRT",
    memory="DDR4",
    replicas=4,
    # Block RAM is short before LUTs are: with these, 76 % of a region's block RAMs and 80 % of its UltraRAMs are used.
    memory_styles=(
        ("*.engine/table_*", "distributed"),
        ("*_gains/memory", "ultra"),
        ("*.engine.activation_memory_*/memory_*", "ultra"),
    ),
    details={"card": Card("xilinx_u250_gen3x16_xdma_4_1_202210_1", "DDR", 4, 16 << 30, 512, by_region=True)},
)
