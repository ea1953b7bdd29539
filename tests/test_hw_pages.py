"""PagedMemory: what was put in comes out, in order, at a word a cycle, whatever page it is in."""

from __future__ import annotations

import random

import pytest
from test_hw_onchip import WriteFirst, random_requests

from tritape.base.errors import TritapeError
from tritape.hw.memory.pages import PagedMemory
from tritape.sim.bench import SIMULATORS, check_streams


@pytest.mark.parametrize("simulator", SIMULATORS)
@pytest.mark.parametrize(("groups", "words", "page"), [(4, 300, 64), (13, 100, 8), (4, 1, 8), (4, 8, 8), (4, 9, 8)])
def test_reads_what_init_and_writes_left(groups: int, words: int, page: int, simulator: str) -> None:
    rng = random.Random(words)
    image = [rng.getrandbits(8 * groups) for _ in range(words)]
    init = b"".join(word.to_bytes(groups, "little") for word in image)
    writes = [{"address": rng.randrange(words), "word": rng.getrandbits(8 * groups)} for _ in range(words // 2)]
    for write in writes:
        image[write["address"]] = write["word"]
    requests = random_requests(rng, words, 30)
    check_streams(
        WriteFirst(PagedMemory(groups, words, init, page=page), len(writes)),
        inputs={"requests": [{"address": at, "length": size} for at, size in requests], "write": writes},
        expected={"words": [word for at, size in requests for word in image[at : at + size]]},
        simulator=simulator,
    )


def test_no_gap_inside_and_between_requests() -> None:
    image = list(range(1, 65))
    requests = [(0, 20), (40, 2), (10, 2), (30, 3), (0, 64)]
    result = check_streams(
        PagedMemory(4, 64, b"".join(word.to_bytes(4, "little") for word in image), page=16),
        inputs={"requests": [{"address": at, "length": size} for at, size in requests], "write": []},
        expected={"words": [word for at, size in requests for word in image[at : at + size]]},
        input_stall=0,
        output_stall=0,
    )
    cycles = result.transfers["words"]
    assert cycles == list(range(cycles[0], cycles[0] + 91))
    assert result.latency["words"] == PagedMemory.LATENCY


def test_errors() -> None:
    with pytest.raises(TritapeError, match=r"^groups must be at least 4, not 2; a tape word has no fewer bytes$"):
        PagedMemory(2, 8)
    with pytest.raises(TritapeError, match=r"^words must be at least 1, not 0; the memory holds a tape$"):
        PagedMemory(4, 0)
    with pytest.raises(TritapeError, match=r"^init must be at most 8 bytes, not 9; use a larger memory$"):
        PagedMemory(4, 2, bytes(9))
    with pytest.raises(TritapeError, match=r"^page must be a power of two from 2 on, not 12; "):
        PagedMemory(4, 2, page=12)
