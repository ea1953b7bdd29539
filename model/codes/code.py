"""What a weight code is: a fixed number of ternary weights in a fixed number of bits, looked up in a table of sums."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod

import numpy as np
from numpy.typing import NDArray

from tritape.base.errors import TritapeError

CURE = "pack it as ternary5, or train it with precision sparse4"


class WeightCode(ABC):
    """A weight code. Tape, engine, cycle model and area take their numbers and bytes from here; a new code is one file.

    Codes lie one behind the other in the bits of a lane's share of a word, bit 0 of byte 0 first. A code addresses a table
    that holds the sum of its activations for `2^address_bits` patterns; its top bit negates what it finds.

    Attributes: `name`; `number` on a tape and in the reply to IDENTIFY; `weights` and `bits` of a code; `entries` of a table
    that are filled, `address_bits` of them; `entry_bits` of a sum; `by_lane`: a code's weights are consecutive elements of
    one lane, each lane has tables of its own (else they are consecutive columns, and lie in all lanes).
    """

    name: str
    number: int
    weights: int
    bits: int
    entries: int
    address_bits: int
    entry_bits: int
    by_lane: bool

    @abstractmethod
    def encode(self, trits: NDArray[np.int8]) -> NDArray[np.uint8]:
        """Codes [...] of trits [..., weights]."""

    @abstractmethod
    def decode(self, codes: NDArray[np.uint8]) -> NDArray[np.int8]:
        """Trits [..., weights] of codes [...]; the inverse of `encode`. Codes that do not occur have no meaning."""

    @abstractmethod
    def script(self) -> list[tuple[int, tuple[int, ...]]]:
        """(address, trits of its sum) for every entry, in the order in which a filler fills them."""

    @abstractmethod
    def complete(self, padded: NDArray[np.int8], rows: int, k: int) -> None:
        """Give the weights of a matrix past `rows` and column `k`, which are 0, values that have a code. What they are
        multiplied by is 0, or nobody uses the sum."""

    @abstractmethod
    def first_wrong(self, ternary: NDArray[np.int8]) -> tuple[int, int] | None:
        """(row, column) of the first weight of a matrix [rows, K] that has no code, rows before columns, or None."""

    def check(self, tensor: str, ternary: NDArray[np.int8]) -> None:
        """Raise TritapeError naming tensor, row and column unless all of a matrix [rows, K] has codes."""
        place = self.first_wrong(ternary)
        if place is not None:
            row, column = place
            start = column // self.weights * self.weights
            wrong = ternary[row, start : start + self.weights].tolist()
            raise TritapeError(
                f"tensor {tensor}: row {row} must have {self.wanted} in columns {start} to {start + len(wrong) - 1}, "
                f"not {wrong} (column {column}); {CURE}"
            )

    wanted = "weights of -1, 0 and 1"
    """What `check` misses."""

    def pack(self, codes: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """Bytes [..., n bits / 8] of codes [..., n]."""
        if self.bits == 8:
            return codes
        planes = (codes[..., None] >> np.arange(self.bits, dtype=np.uint8)) & 1
        return np.packbits(planes.reshape(*codes.shape[:-1], -1), axis=-1, bitorder="little")

    def unpack(self, data: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """Codes [..., n] of bytes [..., n bits / 8]."""
        if self.bits == 8:
            return data
        planes = np.unpackbits(data, axis=-1, bitorder="little").reshape(*data.shape[:-1], -1, self.bits)
        return (planes << np.arange(self.bits, dtype=np.uint8)).sum(axis=-1, dtype=np.uint8)

    @property
    def weights_a_byte(self) -> float:
        """Weights that a byte of tape holds."""
        return 8 * self.weights / self.bits

    @property
    def groups_step(self) -> int:
        """Whole codes fill a multiple of so many bytes."""
        return self.bits // math.gcd(self.bits, 8)

    def tables(self, groups: int) -> int:
        """Codes in `groups` bytes, so tables that look them up at once."""
        return 8 * groups // self.bits

    def tile(self, groups: int) -> int:
        """Activations that one filling of the tables of `groups` bytes covers."""
        return self.weights * self.tables(groups)

    def check_geometry(self, groups: int, engines: int) -> None:
        """Raise TritapeError unless whole codes fill `groups` bytes, and a code's weights the same places of all lanes."""
        step = self.groups_step
        if groups % step:
            raise TritapeError(
                f"groups must be a multiple of {step} with code {self.name}, not {groups}; try {groups + -groups % step}"
            )
        if not self.by_lane and self.weights % engines:
            raise TritapeError(
                f"engines must divide the {self.weights} weights of a code of {self.name}, not be {engines}; "
                "try 1, 2 or 4"
            )
