"""`ternary5`: five weights in a byte, sign and magnitude of a balanced ternary number; any ternary matrix. Decision 0001."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from tritape.model.codes.code import WeightCode

TRITS = 5
MAGNITUDE_BITS = 7


def walk() -> list[tuple[int, int, int]]:
    """The 122 steps as (magnitude, digit, sign): the entry of `magnitude` is the entry before it `+ sign * x[digit]`.

    Every non-negative balanced ternary number of five digits comes once; the first is 0 with sign 0 (the zero vector).
    Digit by digit: what fewer digits reach, then one step sets the next digit to +1, then the reflected ternary Gray
    walk of all lower digits (each digit runs up and down through -1, 0, 1), starting where the walk stands.
    """

    def gray(digits: list[int], count: int) -> Iterator[int]:
        """Digits to change, one by one, so that the lowest `count` of `digits` go through all 3^count vectors."""
        if count == 0:
            return
        yield from gray(digits, count - 1)
        first = digits[count - 1]
        # Start at an end of -1, 0, 1 and cross it; a start at 0 never happens.
        for _ in range(2):
            digits[count - 1] -= first
            yield count - 1
            yield from gray(digits, count - 1)

    digits = [0] * TRITS
    steps = [(0, 0, 0)]

    def step(digit: int, before: int) -> None:
        value = sum(trit * 3**k for k, trit in enumerate(digits))
        steps.append((value, digit, digits[digit] - before))

    for top in range(TRITS):
        digits[top] = 1
        step(top, 0)
        before = list(digits)
        for digit in gray(digits, top):
            step(digit, before[digit])
            before[digit] = digits[digit]
    return steps


class Ternary5(WeightCode):
    """Bit 7 is the sign and bits 6..0 the magnitude of v = sum of trit_k 3^k, k = 0..4; zero is byte 0."""

    name, number = "ternary5", 0
    weights, bits = TRITS, 8
    entries, address_bits = (3**TRITS + 1) // 2, MAGNITUDE_BITS  # magnitudes 0..121
    entry_bits = 11  # 5 * 128 and its sign
    by_lane = True

    def encode(self, trits: NDArray[np.int8]) -> NDArray[np.uint8]:
        """As of `WeightCode`."""
        value = trits[..., 4].astype(np.int16)
        for k in (3, 2, 1, 0):
            value = value * 3 + trits[..., k]
        return (np.abs(value) + np.where(value < 0, 128, 0)).astype(np.uint8)

    def decode(self, codes: NDArray[np.uint8]) -> NDArray[np.int8]:
        """As of `WeightCode`; magnitudes above 121 have no meaning."""
        return _DECODED[codes]

    def script(self) -> list[tuple[int, tuple[int, ...]]]:
        """As of `WeightCode`: `walk`, each sum one addition from the last."""
        steps, trits = [], [0] * TRITS
        for magnitude, digit, sign in walk():
            trits[digit] += sign
            steps.append((magnitude, tuple(trits)))
        return steps

    def complete(self, padded: NDArray[np.int8], rows: int, k: int) -> None:
        """Nothing: zeros have a code."""

    def first_wrong(self, ternary: NDArray[np.int8]) -> tuple[int, int] | None:
        """None: every ternary weight has a code."""
        return None


def _decode(codes: NDArray[np.uint8]) -> NDArray[np.int8]:
    value = (codes & 127).astype(np.int16) * np.where(codes & 128, -1, 1).astype(np.int16)
    trits = np.empty((*codes.shape, TRITS), dtype=np.int8)
    for k in range(TRITS):
        digit = (value + 1) % 3 - 1
        trits[..., k] = digit
        value = (value - digit) // 3
    return trits


_DECODED = _decode(np.arange(256, dtype=np.uint8))

TERNARY5 = Ternary5()
