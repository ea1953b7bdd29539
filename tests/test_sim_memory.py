"""The measurements of memory backends, small, with their bars."""

from __future__ import annotations

import pytest

from tritape.base.errors import TritapeError
from tritape.hw.memory.axi import AXIMemory
from tritape.sim.memory import pattern
from tritape.sim.memory.axi_model import AXIModel, striped
from tritape.sim.memory.measure import measure_axi, measure_qspi


@pytest.mark.parametrize(("groups", "ports", "port_bits"), [(16, 1, 128), (13, 2, 64)])
def test_axi_at_the_memorys_rate(groups: int, ports: int, port_bits: int) -> None:
    """80 cycles of latency and up to 31 more: hidden, requests that follow each other included."""
    figures = measure_axi(groups, ports, port_bits, 80, 31, words=4000, simulator="icarus")
    assert figures["fraction"] >= 0.99
    assert figures["words"] == 4048


def test_first_word() -> None:
    figures = measure_axi(16, 1, 128, latency=80, jitter=0, words=100, simulator="icarus")
    assert figures["first_word"] == AXIMemory(16, 1, 128).latency + 80


def test_flash_at_four_bits_a_clock() -> None:
    assert measure_qspi(8, 100)["fraction"] >= 0.97


def test_pattern_and_stripes() -> None:
    whole = pattern.contents(0, 300)
    assert pattern.contents(7, 50) == whole[7:57]
    assert striped(0, 64, 2, 64) == whole[:8] * 2 + whole[8:16] * 2 + whole[16:24] * 2 + whole[24:32] * 2
    assert striped(21, 30, 2, 64) == striped(0, 64, 2, 64)[21:51]


def test_errors() -> None:
    with pytest.raises(TritapeError, match=r"^jitter must be 2\^n - 1 cycles, at most 65535, not 5$"):
        AXIModel(128, jitter=5)
