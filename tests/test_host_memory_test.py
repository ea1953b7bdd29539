"""The memory test against memories that are broken in known ways."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tritape.base.errors import TritapeError
from tritape.host.memory_test import MOST_ERRORS, PATTERNS, memory_test
from tritape.host.protocol import Identity, check_sum

GROUPS, WORDS = 5, 9000


class Memory:
    """A device's memory; `where` says at which word an address ends up, `keeps` what a word becomes."""

    def __init__(
        self,
        where: Callable[[int], int] = lambda word: word,
        keeps: Callable[[int, bytes], bytes] = lambda word, data: data,
    ) -> None:
        self.identity = Identity(2, 0, GROUPS, 1, 1, 1, 1, 1, WORDS)
        self.cells: dict[int, bytes] = {}
        self.where, self.keeps = where, keeps
        self.damaged_checks = 0

    def write_memory(self, address: int, data: bytes) -> None:
        for at in range(0, len(data), GROUPS):
            word = self.where(address + at // GROUPS)
            self.cells[word] = self.keeps(word, data[at : at + GROUPS])

    def read_memory(self, address: int, words: int) -> bytes:
        return b"".join(self.cells[self.where(word)] for word in range(address, address + words))

    def check_memory(self, address: int, words: int) -> int:
        self.damaged_checks -= 1
        return check_sum(self.read_memory(address, words)) ^ (self.damaged_checks == 0)


def test_a_good_memory():
    memory, seen = Memory(), []
    result = memory_test(memory, 3, 8000, progress=lambda done, total: seen.append((done, total)))
    assert result["errors"] == dict.fromkeys(PATTERNS, 0)
    assert (result["wrong"], result["unstable"], result["words"]) == ([], 0, 8000)
    assert sorted(memory.cells) == list(range(3, 8003))
    assert seen[-1] == (64000, 64000)
    assert min(result["written_bytes_per_second"], result["checked_bytes_per_second"]) > 0
    assert memory_test(memory)["words"] == WORDS


def test_joined_address_lines():
    """Words 0 and 4096 are one, and so are those behind them: all but the last written are wrong."""
    result = memory_test(Memory(where=lambda word: word & 0xFFF), 4000, 200)
    assert result["errors"] == {name: 0 for name in PATTERNS}  # none of them meet in this range
    result = memory_test(Memory(where=lambda word: word & 0xFFF), 0, 4100)
    assert result["errors"]["address"] == result["errors"]["random"] == 4
    assert result["wrong"][0] == {"pattern": "address", "address": 0, "expected": "0000000000", "read": "0010000000"}


def test_a_data_line_that_stays_high():
    """Bit 9 of every word reads 1: wrong where it was written 0."""
    memory = Memory(keeps=lambda word, data: data[:1] + bytes([data[1] | 2]) + data[2:])
    result = memory_test(memory, 0, 80, seed=4)
    assert result["errors"]["walking one"] == 80 - 2
    assert result["errors"]["walking zero"] == 2
    assert result["errors"]["address"] == 80
    assert 20 < result["errors"]["random"] < 60
    assert len(result["wrong"]) == MOST_ERRORS
    assert memory_test(memory, 0, 80, seed=4)["errors"] == result["errors"]
    assert memory_test(memory, 0, 80, seed=5)["errors"] != result["errors"]


def test_a_check_that_fails_once():
    memory = Memory()
    memory.damaged_checks = 2
    result = memory_test(memory)
    assert (sum(result["errors"].values()), result["unstable"]) == (0, 1)


@pytest.mark.parametrize(("first", "words"), [(-1, 5), (0, 0), (0, WORDS + 1), (WORDS, None), (8999, 2)])
def test_ranges_outside(first: int, words: int | None):
    with pytest.raises(TritapeError, match=r"^range must lie in the memory's 9000 words, not be -?\d+ from -?\d+ on;"):
        memory_test(Memory(), first, words)
