"""The boards: those of this package, and those that installed packages add through the entry point group `tritape.boards`."""

from __future__ import annotations

import importlib
from importlib.metadata import entry_points

from tritape.base.errors import TritapeError
from tritape.rtl_gen.boards.board import Board, TapeFlash
from tritape.rtl_gen.boards.bus_board import BusBoard

GROUP = "tritape.boards"
"""Entry point group; each entry point is a `Board` or a `BusBoard`."""

BUILT_IN = (
    "ulx3s:ULX3S_85F",
    "ulx3s:ULX3S_85F_SPARSE",
    "ulx3s:ULX3S_25F",
    "icepi_zero:ICEPI_ZERO",
    "icesugar_pro:ICESUGAR_PRO",
    "orangecrab:ORANGECRAB",
    "ecpix5:ECPIX5",
    "icebreaker:ICEBREAKER",
    "upduino:UPDUINO_V3",
    "tang_nano_9k:TANG_NANO_9K",
    "tang_primer_20k:TANG_PRIMER_20K",
    "ulx3s:ULX3S_85F_SDRAM",
    "icepi_zero:ICEPI_ZERO_SDRAM",
    "icesugar_pro:ICESUGAR_PRO_SDRAM",
    "orangecrab:ORANGECRAB_DDR3",
    "ecpix5:ECPIX5_DDR3",
    "icebreaker:ICEBREAKER_FLASH",
    "arty_a7:ARTY_A7_35T",
    "arty_a7:ARTY_A7_100T",
    "kria:KV260",
    "kria:KR260",
    "alveo:U280",
    "alveo:U250",
)
"""Module of this package and the name of a `Board` or `BusBoard` in it."""

__all__ = ["BUILT_IN", "GROUP", "AnyBoard", "Board", "BusBoard", "TapeFlash", "board", "boards"]

AnyBoard = Board | BusBoard
"""What `boards` returns."""


def boards() -> dict[str, AnyBoard]:
    """Every board by name, in the order of `BUILT_IN`, then those of other packages.

    Raises `TritapeError` naming the entry point that is no `Board` or whose name is taken.
    """
    found: dict[str, AnyBoard] = {}
    for entry in BUILT_IN:
        module, _, name = entry.partition(":")
        made = getattr(importlib.import_module(f"{__name__}.{module}"), name)
        found[made.name] = made
    for point in sorted(entry_points(group=GROUP), key=lambda point: point.name):
        try:
            made = point.load()
        except (ImportError, AttributeError) as error:
            raise TritapeError(
                f"entry point {point.name!r} of {GROUP} must load {point.value}, not fail: {error}; reinstall its package"
            ) from error
        if not isinstance(made, AnyBoard):
            raise TritapeError(
                f"entry point {point.name!r} of {GROUP} must be a Board, not {type(made).__name__}; "
                f"let {point.value} name a Board"
            )
        if made.name in found:
            raise TritapeError(
                f"entry point {point.name!r} of {GROUP} must have a name of its own, not {made.name!r}; rename the board"
            )
        found[made.name] = made
    return found


def board(name: str) -> AnyBoard:
    """The board of this name. Raises `TritapeError` that lists the names there are."""
    found = boards()
    if name not in found:
        raise TritapeError(f"board must be one of {', '.join(found)}, not {name!r}; `tritape boards` describes them")
    return found[name]
