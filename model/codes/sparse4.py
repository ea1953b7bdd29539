"""`sparse4`: four weights of which exactly one is zero (3:4) in five bits.

Training (`precision = "sparse4"`) makes such matrices. The last one to three weights of a row whose length is no multiple
of four may hold one zero or none: the zero of their four then lies in the padding. Source: arXiv 2601.07892.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from tritape.model.codes.code import WeightCode

FOUR = 4
"""Weights of a code, one of them zero."""
CODES = 32


class Sparse4(WeightCode):
    """Bit 3 is the half that holds the zero (0: x2, x3; 1: x0, x1), p and q the two weights of the other half, r the weight
    beside the zero. Bit 2: which of its half r is (0: x2 or x0; 1: x3 or x1); bit 1: q differs from p; bit 0: r differs from
    p; bit 4: p is -1. So an entry is `p + q or p - q, then + r or - r`: a filler adds twice, and counts through addresses.
    """

    name, number = "sparse4", 1
    weights, bits = FOUR, 5
    entries, address_bits = 16, 4
    entry_bits = 10  # 3 * 128 and its sign
    by_lane = False
    wanted = "one zero"

    def encode(self, trits: NDArray[np.int8]) -> NDArray[np.uint8]:
        """As of `WeightCode`."""
        pattern = np.zeros(trits.shape[:-1], np.uint8)
        for k in range(FOUR):
            pattern = pattern * 3 + (trits[..., k] + 1).astype(np.uint8)
        return _ENCODED[pattern]

    def decode(self, codes: NDArray[np.uint8]) -> NDArray[np.int8]:
        """As of `WeightCode`."""
        return _DECODED[codes]

    def script(self) -> list[tuple[int, tuple[int, ...]]]:
        """As of `WeightCode`: addresses 0 to 15."""
        return [(address, tuple(_DECODED[address].tolist())) for address in range(self.entries)]

    def complete(self, padded: NDArray[np.int8], rows: int, k: int) -> None:
        """As of `WeightCode`: ones, and the zero first where a four has none."""
        padded[rows:].reshape(-1, FOUR)[:] = (0, 1, 1, 1)
        start = k // FOUR * FOUR
        if k % FOUR:
            zero = (padded[:rows, start:k] == 0).any(axis=1)
            padded[:rows, k : start + FOUR] = 1
            padded[:rows, k] = zero
            start += FOUR
        free = padded[:rows, start:]
        free[:] = 1
        free[:, ::FOUR] = 0

    def first_wrong(self, ternary: NDArray[np.int8]) -> tuple[int, int] | None:
        """As of `WeightCode`: the second zero of a four, or the last weight of a four without a zero."""
        rows, columns = ternary.shape
        zero = np.zeros((rows, -(-columns // FOUR) * FOUR), np.bool_)
        zero[:, :columns] = ternary == 0
        seen = zero.reshape(rows, -1, FOUR).cumsum(axis=2)
        wrong = zero & (seen > 1).reshape(rows, -1)
        whole = columns // FOUR * FOUR
        wrong[:, FOUR - 1 : whole : FOUR] |= seen[:, : columns // FOUR, -1] == 0
        if not wrong.any():
            return None
        row, column = np.unravel_index(int(wrong.argmax()), wrong.shape)
        return int(row), int(column)


def _decode() -> NDArray[np.int8]:
    """Trits of all codes [32, 4]."""
    trits = np.zeros((CODES, FOUR), np.int8)
    for code, four in enumerate(trits):
        p, half, beside = (-1 if code & 16 else 1), code >> 3 & 1, code >> 2 & 1
        q, r = (-p if code & 2 else p), (-p if code & 1 else p)
        four[2 * half : 2 * half + 2] = p, q
        four[2 * (1 - half) + beside] = r
    return trits


_DECODED = _decode()
_ENCODED = np.zeros(3**FOUR, np.uint8)
_ENCODED[(_DECODED + 1) @ np.array([27, 9, 3, 1])] = np.arange(CODES)

SPARSE4 = Sparse4()
