"""Test of a board's memory over the host link: patterns written, checked in the device, and read back where they differ."""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from typing import Any, Protocol

from tritape.base.errors import TritapeError
from tritape.host.protocol import Identity, check_sum

PIECE_BYTES = 1 << 14
"""Memory that one check covers; where it fails these bytes are read back."""
MOST_ERRORS = 16
"""Wrong words that are listed; all are counted."""


class MemoryDevice(Protocol):
    """What the test needs of `tritape.host.device.Device`."""

    identity: Identity

    def write_memory(self, address: int, data: bytes) -> None:
        """Write words."""

    def read_memory(self, address: int, words: int) -> bytes:
        """Read words."""

    def check_memory(self, address: int, words: int) -> int:
        """CRC-32 of words, computed in the device."""


def _address(word: int, _seed: int, size: int) -> bytes:
    return (word.to_bytes(4, "little") * -(-size // 4))[:size]


def _walking_one(word: int, _seed: int, size: int) -> bytes:
    return (1 << word % (8 * size)).to_bytes(size, "little")


def _walking_zero(word: int, seed: int, size: int) -> bytes:
    return bytes(byte ^ 0xFF for byte in _walking_one(word, seed, size))


def _random(word: int, seed: int, size: int) -> bytes:
    return random.Random(seed << 32 | word).randbytes(size)


PATTERNS: dict[str, Callable[[int, int, int], bytes]] = {
    "address": _address,
    "walking one": _walking_one,
    "walking zero": _walking_zero,
    "random": _random,
}
"""Word address, seed and bytes of a word to its bytes. The address finds lines that are open or joined, since every word
differs; the walks find data lines; random words find what depends on neighbours."""


def memory_test(
    device: MemoryDevice,
    first: int = 0,
    words: int | None = None,
    *,
    seed: int = 0,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> dict[str, Any]:
    """Fill `words` words from word address `first` on (None: up to the end) with each of `PATTERNS`, then check all of them.

    What was there is lost, a tape included. Returns, JSON-ready: `errors`, the wrong words of each pattern; `wrong`, the first
    `MOST_ERRORS` of them with pattern, address, expected and read bytes in hexadecimal, byte 0 first; `unstable`, checks that
    failed although the words read right; bytes a second written and checked, by the host's clock: those of the link and of
    the device's CRC, not what the memory can do. Raises `TritapeError` for a range outside the memory.
    """
    size, room = device.identity.geometry.word_bytes, device.identity.memory_words
    count = room - first if words is None else words
    if not (first >= 0 and 1 <= count <= room - first):
        raise TritapeError(
            f"range must lie in the memory's {room} words, not be {count} from {first} on; choose another"
        )
    piece = max(PIECE_BYTES // size, 1)
    starts = range(first, first + count, piece)
    total, done = 2 * len(PATTERNS) * count, 0
    wrong: list[dict[str, Any]] = []
    errors, unstable, seconds = dict.fromkeys(PATTERNS, 0), 0, [0.0, 0.0]
    for name, pattern in PATTERNS.items():
        for checking in (False, True):
            for start in starts:
                length = min(piece, first + count - start)
                data = b"".join(pattern(word, seed, size) for word in range(start, start + length))
                began = time.perf_counter()
                if not checking:
                    device.write_memory(start, data)
                good = not checking or device.check_memory(start, length) == check_sum(data)
                seconds[checking] += time.perf_counter() - began
                if not good:
                    found = _differences(start, data, device.read_memory(start, length), size)
                    errors[name] += len(found)
                    unstable += not found
                    wrong += [{"pattern": name, **one} for one in found]
                    del wrong[MOST_ERRORS:]
                done += length
                progress(done, total)
    moved = len(PATTERNS) * count * size
    return {
        "first": first,
        "words": count,
        "word_bytes": size,
        "seed": seed,
        "errors": errors,
        "wrong": wrong,
        "unstable": unstable,
        "written_bytes_per_second": moved / seconds[0],
        "checked_bytes_per_second": moved / seconds[1],
    }


def _differences(start: int, expected: bytes, read: bytes, size: int) -> list[dict[str, Any]]:
    """Words that differ."""
    return [
        {
            "address": start + at // size,
            "expected": expected[at : at + size].hex(),
            "read": read[at : at + size].hex(),
        }
        for at in range(0, len(expected), size)
        if expected[at : at + size] != read[at : at + size]
    ]
