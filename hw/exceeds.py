"""Comparison with a constant, in gates."""

from __future__ import annotations

from amaranth.hdl import Const, Value


def exceeds(value: Value, limit: int) -> Value:
    """`value > limit` for an unsigned value: one gate a bit; a comparator is a carry chain, a cell a bit on iCE40."""
    more: Value = Const(0)
    for bit in range(len(value)):
        more = value[bit] & more if limit >> bit & 1 else value[bit] | more
    return Const(0) if limit >> len(value) else more
