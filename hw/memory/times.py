"""Multiplication by a constant with adders, so that no part spends a multiplier on an address."""

from __future__ import annotations

from functools import reduce
from operator import add

from amaranth.hdl import Value


def times(value: Value, constant: int) -> Value:
    """`value` times a positive `constant`, in full width: one addition fewer than the constant has ones."""
    width = len(value) + (constant - 1).bit_length()
    terms = [value << bit for bit in range(constant.bit_length()) if constant >> bit & 1]
    return reduce(add, terms)[:width]
