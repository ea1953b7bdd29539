"""AMD Kria starter kits KV260 and KR260: K26 module, four HP ports to the processor's DDR4. Built by Vivado."""

from __future__ import annotations

from tritape.hw.config import Config
from tritape.rtl_gen.boards.bus_board import BusBoard
from tritape.rtl_gen.boards.packages.kria import ADDRESS_BITS, HP_PORTS, PORT_BITS, kria_files

_COMMON = {
    "device": "xck26-sfvc784-2LV-c",
    # The limits of the released 370M model, whose tape of 1,640,413 words fits.
    "config": Config(
        groups=16, engines=4, max_hidden=1024, max_intermediate=2816, max_layers=24, max_vocab=32768, max_rows=2048
    ),
    "memory_words": 1_703_936,
    "clock_hz": 250_000_000,
    "ports": HP_PORTS,
    "port_bits": PORT_BITS,
    "address_bits": ADDRESS_BITS,
    "files": kria_files,
    "main": "vivado.tcl",
    "link": "AXI4-Lite, UIO",
    "memory": "DDR4",
}

KV260 = BusBoard(
    name="kv260",
    title="AMD Kria KV260",
    details={
        "kit": "kv260_som",
        "connections": ("som240_1_connector", "xilinx.com:kv260_carrier:som240_1_connector:1.3"),
    },
    **_COMMON,  # type: ignore[arg-type]
)

KR260 = BusBoard(
    name="kr260",
    title="AMD Kria KR260",
    details={
        "kit": "kr260_som",
        "connections": (
            "som240_1_connector", "xilinx.com:kr260_carrier:som240_1_connector:1.0",
            "som240_2_connector", "xilinx.com:kr260_carrier:som240_2_connector:1.0",
        ),
    },
    **_COMMON,  # type: ignore[arg-type]
)  # fmt: skip
