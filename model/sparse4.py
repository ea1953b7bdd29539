"""3:4 weights: ternary with exactly one zero in each four consecutive weights of a row, 1.25 bits a weight.

Training (`precision = "sparse4"`) makes them, and a packer asks here whether a matrix is so before it uses a code of four
weights in five bits. The last one to three weights of a row whose length is no multiple of four may hold one zero or none:
the zero of their four then lies in the padding. Source: arXiv 2601.07892.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from tritape.base.errors import TritapeError

FOUR = 4
"""Weights of a group, one of them zero."""


def is_sparse4(ternary: NDArray[np.int8]) -> bool:
    """Whether the rows of a ternary matrix [rows, K] of -1, 0, 1 are 3:4."""
    return first_not_sparse4(ternary) is None


def first_not_sparse4(ternary: NDArray[np.int8]) -> tuple[int, int] | None:
    """(row, column) of the first weight that is not 3:4, rows before columns; None when there is none.

    It is the second zero of a four, or the last weight of a four without a zero.
    """
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


def check_sparse4(tensor: str, ternary: NDArray[np.int8]) -> None:
    """Raise TritapeError naming tensor, row and column unless a matrix [rows, K] is 3:4."""
    place = first_not_sparse4(ternary)
    if place is not None:
        row, column = place
        start = column // FOUR * FOUR
        four = ternary[row, start : start + FOUR].tolist()
        raise TritapeError(
            f"tensor {tensor}: row {row} must have one zero in columns {start} to {start + len(four) - 1}, not {four} "
            f"(column {column}); pack it as ternary5, or train it with precision sparse4"
        )
