"""Gearbox: any word width from any line width, at the rate of the narrower one."""

from __future__ import annotations

import random

import pytest

from tritape.base.errors import TritapeError
from tritape.hw.memory.gearbox import Gearbox, grain
from tritape.sim.bench import SIMULATORS, check_streams

Run = tuple[int, int]  # skip in units, words


def stimulus(line_bytes: int, groups: int, runs: list[Run], rng: random.Random) -> tuple[list[int], list[int]]:
    """Lines with random bytes, and the words that the runs must give."""
    unit = grain(line_bytes, groups).unit
    lines, words = [], []
    for skip, count in runs:
        size = -(-(skip * unit + count * groups) // line_bytes) * line_bytes
        raw = rng.randbytes(size)
        lines += [int.from_bytes(raw[at : at + line_bytes], "little") for at in range(0, size, line_bytes)]
        starts = range(skip * unit, skip * unit + count * groups, groups)
        words += [int.from_bytes(raw[at : at + groups], "little") for at in starts]
    return lines, words


def check(line_bytes: int, groups: int, runs: list[Run], **options):
    lines, words = stimulus(line_bytes, groups, runs, random.Random(line_bytes * groups))
    return check_streams(
        Gearbox(line_bytes, groups),
        inputs={"lines": lines, "runs": [{"skip": skip, "words": count} for skip, count in runs]},
        expected={"words": words},
        **options,
    )


SHAPES = [(2, 26), (16, 16), (16, 26), (64, 13), (8, 64), (1, 4)]


@pytest.mark.parametrize("simulator", SIMULATORS)
@pytest.mark.parametrize(("line_bytes", "groups"), SHAPES)
def test_words_from_any_position(line_bytes: int, groups: int, simulator: str) -> None:
    if simulator == "icarus" and line_bytes * groups > 1000:
        pytest.skip("the wide ones in Verilator only")
    units = line_bytes // grain(line_bytes, groups).unit
    rng = random.Random(groups)
    runs = [(0, 1), (units - 1, 1), (0, 2), (units - 1, 40)]
    runs += [(rng.randrange(units), rng.randint(1, 9)) for _ in range(12)]
    check(line_bytes, groups, runs, simulator=simulator)


@pytest.mark.parametrize(("line_bytes", "groups"), SHAPES)
def test_rate_and_latency(line_bytes: int, groups: int) -> None:
    """The narrower side moves every cycle once the window is full."""
    count = 200
    result = check(line_bytes, groups, [(0, count)], input_stall=0, output_stall=0)
    words, lines = result.transfers["words"], result.transfers["lines"]
    narrow = words if groups <= line_bytes else lines
    settled = narrow[8:]
    assert settled == list(range(settled[0], settled[0] + len(settled)))
    completing = -(-groups // line_bytes) - 1
    assert words[0] - lines[completing] == Gearbox.latency(line_bytes, groups)


def test_two_cycles_between_runs() -> None:
    result = check(16, 16, [(0, 10), (0, 10)], input_stall=0, output_stall=0)
    words = result.transfers["words"]
    assert words[10] - words[9] == 3


def test_errors() -> None:
    with pytest.raises(TritapeError, match=r"^line_bytes must be a power of two, not 12$"):
        Gearbox(12, 16)
    with pytest.raises(TritapeError, match=r"^groups must be at least 4, not 2$"):
        Gearbox(16, 2)
