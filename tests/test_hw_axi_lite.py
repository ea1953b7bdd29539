"""AXILiteLink against cocotbext-axi's manager: every byte both ways, every register, random pauses."""

from __future__ import annotations

import pytest
from cocotb_runner import run_cocotb

from tritape.base.errors import TritapeError
from tritape.hw.link.axi_lite import AXILiteLink


@pytest.mark.parametrize(("ports", "simulator"), [(1, "verilator"), (3, "icarus"), (32, "verilator")])
def test_every_byte_and_register(ports: int, simulator: str) -> None:
    job = {
        "ports": ports, "line_bytes": 16 * ports, "port_bytes": 4096 * (ports * 12345 + 1), "seed": ports, "stall": 0.5,
        "count": 500,
    }  # fmt: skip
    taken = run_cocotb(AXILiteLink(ports, job["line_bytes"], job["port_bytes"]), "cocotb_axi_lite", job, simulator)
    assert taken == {f"write {name}": AXILiteLink.WRITE_CYCLES[name] for name in ("BYTE", "WORD", "BASE")} | {
        f"read {name}": AXILiteLink.READ_CYCLES[name] for name in ("STATUS", "BYTE", "WORD")
    }


def test_errors() -> None:
    with pytest.raises(TritapeError, match=r"^ports must be in 1\.\.32, not 33; give the memory fewer$"):
        AXILiteLink(33, 16, 4096)
    with pytest.raises(TritapeError, match=r"^port_bytes must be a multiple of 4096, not 4097; round it up$"):
        AXILiteLink(1, 16, 4097)
