"""AXIMemory against cocotbext-axi: random latency, back-pressure, error responses and restarts."""

from __future__ import annotations

import pytest
from cocotb_runner import run_cocotb

from tritape.base.errors import TritapeError
from tritape.hw.memory.axi import AXIMemory
from tritape.hw.memory.axi_reader import AXIReader

SHAPES = [  # groups, ports, port_bits, burst
    (13, 1, 128, None, "verilator"),
    (16, 4, 32, 16, "verilator"),
    (5, 2, 64, 32, "icarus"),
    (26, 1, 16, None, "verilator"),
    (64, 1, 512, None, "verilator"),
]


@pytest.mark.parametrize(("groups", "ports", "port_bits", "burst", "simulator"), SHAPES)
def test_reads_what_was_written(groups: int, ports: int, port_bits: int, burst: int | None, simulator: str) -> None:
    job = {"groups": groups, "ports": ports, "port_bits": port_bits, "seed": groups, "restarts": 3, "stall": 0.3}
    memory = AXIMemory(groups, ports, port_bits, burst, fifo_lines=2 * burst if burst else 512)
    answer = run_cocotb(memory, "cocotb_axi", job, simulator)
    assert answer["errors"] == answer["failed"] > 0


def test_errors() -> None:
    with pytest.raises(TritapeError, match=r"^ports must be a power of two, not 3$"):
        AXIMemory(16, 3)
    with pytest.raises(TritapeError, match=r"^data_bits must be a power of two in 16\.\.512, not 8$"):
        AXIMemory(16, 1, 8)
    with pytest.raises(TritapeError, match=r"^burst must be a power of two in 1\.\.64 at 512 bits, not 128$"):
        AXIReader(512, burst=128)
    with pytest.raises(TritapeError, match=r"^fifo_lines must be at least two bursts \(512\), not 256$"):
        AXIReader(128, fifo_lines=256)
