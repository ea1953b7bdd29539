"""One setting of a PLL, and the search that every family shares."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

from tritape.base.errors import TritapeError


@dataclass(frozen=True)
class PLL:
    """Dividers of a PLL whose output is `hz` = input * multiply / divide, a whole number of hertz.

    divide: in front of the phase detector. multiply: feedback, seen from the output. post: VCO = hz * post.
    """

    hz: int
    divide: int
    multiply: int
    post: int


@dataclass(frozen=True)
class Limits:
    """What a PLL can do, in Hz and as dividers; from the datasheet that the family's module names."""

    detector: tuple[float, float]
    vco: tuple[float, float]
    divide: Sequence[int]
    multiply: Sequence[int]
    post: Sequence[int]
    output: tuple[float, float]
    multiply_with_post: bool = False
    """The feedback divider counts VCO cycles, so `multiply` of the silicon is ours times `post`."""


@lru_cache
def settings(limits: Limits, input_hz: int) -> tuple[PLL, ...]:
    """Every output of whole hertz, ascending, each once: with the smallest `divide`, then the VCO nearest the middle."""
    low, high = limits.vco
    best: dict[int, tuple[tuple[float, ...], PLL]] = {}
    for divide in limits.divide:
        if not limits.detector[0] <= input_hz / divide <= limits.detector[1]:
            continue
        for post in limits.post:
            parts = divide * (post if limits.multiply_with_post else 1)
            for multiply in limits.multiply:
                hz, rest = divmod(input_hz * multiply, parts)
                vco = hz * post
                if rest or not low <= vco <= high or not limits.output[0] <= hz <= limits.output[1]:
                    continue
                rank = (divide, abs(vco - (low + high) / 2))
                if hz not in best or rank < best[hz][0]:
                    best[hz] = rank, PLL(hz, divide, multiply, post)
    return tuple(best[hz][1] for hz in sorted(best))


def exactly(choices: Sequence[PLL], hz: int, who: str) -> PLL:
    """The setting for `hz`. Raises `TritapeError` that names the nearest clocks."""
    for pll in choices:
        if pll.hz == hz:
            return pll
    near = sorted(choices, key=lambda pll: abs(pll.hz - hz))[:2]
    names = " or ".join(f"{pll.hz / 1e6:g}" for pll in sorted(near, key=lambda pll: pll.hz)) or "none"
    raise TritapeError(f"{who}: clock must be one that the PLL makes, not {hz / 1e6:g} MHz; nearest are {names} MHz")


def at_most(choices: Sequence[PLL], hz: float, who: str) -> PLL:
    """The fastest setting up to `hz`. Raises `TritapeError` when even the slowest is faster."""
    below = [pll for pll in choices if pll.hz <= hz]
    if not below:
        slowest = f"{choices[0].hz / 1e6:g}" if choices else "none"
        raise TritapeError(
            f"{who}: clock must be at least {slowest} MHz, not {hz / 1e6:g} MHz; the PLL makes none so slow"
        )
    return below[-1]
