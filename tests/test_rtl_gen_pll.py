"""PLL settings: every one obeys its device's limits and makes exactly the clock it says."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tritape.base.errors import TritapeError
from tritape.rtl_gen.boards import Board, boards
from tritape.rtl_gen.toolchains.pll import PLL, Limits, at_most, exactly
from tritape.rtl_gen.toolchains.pll import settings as pll_settings

BOARDS = {name: made for name, made in boards().items() if isinstance(made, Board)}


@pytest.mark.parametrize("name", BOARDS)
def test_every_board_has_its_clock(name: str) -> None:
    board = BOARDS[name]
    choices = board.toolchain.settings(board.platform(), board.crystal_hz)
    assert board.clock_hz == board.crystal_hz or exactly(choices, board.clock_hz, name).hz == board.clock_hz


@settings(max_examples=200, deadline=None)
@given(st.sampled_from(["ulx3s-85f", "icebreaker", "tang-nano-9k", "arty-a7-35t"]), st.data())
def test_settings_obey_the_datasheet(name: str, data: st.DataObject) -> None:
    """Recomputed from the dividers, with the limits as the datasheets print them."""
    board: Board = BOARDS[name]
    pll = data.draw(st.sampled_from(board.toolchain.settings(board.platform(), board.crystal_hz)))
    detector = board.crystal_hz / pll.divide
    low, high, vco_low, vco_high = {
        "ecp5": (3.125e6, 400e6, 400e6, 800e6),
        "ice40": (10e6, 133e6, 533e6, 1066e6),
        "gowin": (3e6, 400e6, 400e6, 1200e6),
        "xilinx": (19e6, 450e6, 800e6, 1600e6),
    }[board.family]
    if board.family in ("ice40", "xilinx"):  # the feedback is the VCO's, not the output's
        vco = detector * pll.multiply
        assert vco / pll.post == pll.hz
    else:
        vco = detector * pll.multiply * pll.post
        assert detector * pll.multiply == pytest.approx(pll.hz, abs=1e-6)
    assert low <= detector <= high
    assert vco_low <= vco <= vco_high


def test_equals_the_vendors_calculators() -> None:
    """ecppll -i 25 -o 80: CLKI_DIV 5, CLKFB_DIV 16, CLKOP_DIV 7; icepll -i 12 -o 24: DIVR 0, DIVF 63, DIVQ 5."""
    assert found("ulx3s-85f", 80_000_000) == PLL(80_000_000, 5, 16, 7)
    assert found("icebreaker", 24_000_000) == PLL(24_000_000, 1, 64, 32)


def found(name: str, hz: int) -> PLL:
    board = BOARDS[name]
    return exactly(board.toolchain.settings(board.platform(), board.crystal_hz), hz, name)


@given(st.integers(8, 100), st.floats(1, 400))
def test_at_most_is_the_fastest_below(input_mhz: int, limit_mhz: float) -> None:
    limits = Limits((3e6, 400e6), (400e6, 800e6), (1, 2, 4), range(1, 20), (2, 4, 8), (10e6, 400e6))
    choices = pll_settings(limits, input_mhz * 1_000_000)
    below = [pll.hz for pll in choices if pll.hz <= limit_mhz * 1e6]
    if below:
        assert at_most(choices, limit_mhz * 1e6, "b").hz == max(below)
    else:
        with pytest.raises(TritapeError, match="clock must be at least"):
            at_most(choices, limit_mhz * 1e6, "b")


def test_errors_name_the_nearest_clocks() -> None:
    with pytest.raises(
        TritapeError,
        match=r"^ulx3s-85f: clock must be one that the PLL makes, not 80\.1 MHz; nearest are 80 or 81\.25 MHz$",
    ):
        found("ulx3s-85f", 80_100_000)
    with pytest.raises(
        TritapeError, match=r"^x: clock must be at least none MHz, not 5 MHz; the PLL makes none so slow$"
    ):
        at_most((), 5e6, "x")
