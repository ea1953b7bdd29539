"""GainMemory: words in, elements out."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from tritape.base.errors import TritapeError
from tritape.hw.norm.gain_memory import GainMemory
from tritape.sim.bench import SIMULATORS, check_streams


def words_of(elements: list[int], groups: int, bank: int) -> list[dict[str, int]]:
    """Elements as the tape packs them: `groups // 2` of 16 bits a word, low first, the rest of the word zero."""
    each = groups // 2
    return [
        {
            "word": sum(value << 16 * k for k, value in enumerate(elements[at : at + each])),
            "bank": bank,
            "first": int(at == 0),
        }
        for at in range(0, len(elements), each)
    ]


def program(groups: int, vectors: list[tuple[int, int]]) -> dict[str, Any]:
    """What `check_streams` needs for: per (bank, length), write a vector, read it twice.

    A bank is written again only after it has been read out, and read only after it has been written.
    """
    rng = np.random.default_rng(groups)
    words: list[dict[str, int]] = []
    reads: list[dict[str, int]] = []
    elements: list[int] = []
    needs: list[tuple[int, str, int]] = []
    gates: list[tuple[int, str, int]] = []
    used = [0, 0]
    for bank, length in vectors:
        vector = [int(value) for value in rng.integers(0, 1 << 16, length)]
        gates.append((len(words), "elements", used[bank]))
        words += words_of(vector, groups, bank)
        for _ in range(2):
            needs.append((len(reads), "words", len(words)))
            reads.append({"bank": bank, "length": length})
            elements += vector
        used[bank] = len(elements)
    return {"words": words, "reads": reads, "elements": elements, "needs": needs, "gates": gates}


@pytest.mark.parametrize("simulator", SIMULATORS)
@pytest.mark.parametrize("groups", [4, 5, 17])
def test_reads_what_was_written(groups: int, simulator: str) -> None:
    p = program(groups, [(0, 40), (1, 65), (0, 1), (0, 2), (1, 8), (0, 65), (1, 64)])
    check_streams(
        GainMemory(groups, 65, 2),
        inputs={"words": p["words"], "reads": p["reads"]},
        expected={"elements": p["elements"]},
        after={"words": p["gates"], "reads": p["needs"]},
        simulator=simulator,
    )


@pytest.mark.parametrize("groups", [4, 16])
def test_latency_and_one_element_a_cycle(groups: int) -> None:
    p = program(groups, [(0, 61)])
    result = check_streams(
        GainMemory(groups, 64, 1),
        inputs={"words": p["words"], "reads": p["reads"]},
        expected={"elements": p["elements"]},
        after={"reads": p["needs"]},
        input_stall=0,
        output_stall=0,
    )
    for read, at in enumerate(result.transfers["reads"]):
        elements = result.transfers["elements"][61 * read : 61 * read + 61]
        assert elements == list(range(at + GainMemory.LATENCY, at + GainMemory.LATENCY + 61))
    assert result.transfers["reads"][1] == result.transfers["elements"][60]


def test_rejects_sizes_that_cannot_be() -> None:
    with pytest.raises(TritapeError, match=r"^groups must be at least 4, not 3$"):
        GainMemory(3, 64, 1)
    with pytest.raises(TritapeError, match=r"^max_length must be 1\.\.16384, not 16385$"):
        GainMemory(4, 16385, 1)
    with pytest.raises(TritapeError, match=r"^banks must be 1 or 2, not 3$"):
        GainMemory(4, 64, 3)
