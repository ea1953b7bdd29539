"""Ternary matrices at 1.6 bits a weight: five to a byte.

A row of K weights becomes J bytes, J = 16 * ceil(K / 80). Byte j holds the weights at columns j, j + J, .., j + 4 J (zero past
the end), most significant first: with digits t = weight + 1,

    v = sum over d of t[d * J + j] * 3^(4 - d),    byte = ceil(256 * v / 243)

so that a digit is read by one multiplication: p = 3 * byte; t = p >> 8; byte = p & 255; and so on for the next.
Each digit of a run of bytes thus faces a contiguous run of the input, and rows start at multiples of 16 bytes.

Why five a byte and not four: at 2 bits the matrices alone weigh exactly an eighth of float16, which leaves no room for
an embedding; a batch-1 token reads every byte once, so a fifth fewer bytes is also a fifth less time where memory is
the limit, and four digits at a time are decoded in seven integer instructions.
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

TRITS = 5
ALIGN = 16


@dataclass(frozen=True)
class PackedMatrix:
    """data: uint8 [rows, row_bytes(columns)]; scale: the magnitude of +1, of no dimension."""

    data: Tensor
    scale: Tensor
    columns: int


def row_bytes(columns: int) -> int:
    """Bytes of a packed row."""
    return ALIGN * -(-columns // (ALIGN * TRITS))
