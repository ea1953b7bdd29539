"""Ports of an inner component as ports of the one around it."""

from __future__ import annotations

from collections.abc import Iterable

from amaranth.hdl import Module
from amaranth.lib import wiring
from amaranth.lib.wiring import In


def forward(m: Module, outer: wiring.Component, inner: wiring.Component, names: Iterable[str]) -> None:
    """Connect ports, streams and arrays of streams of `outer` with those of the same name and direction of `inner`."""
    for name in names:
        member = outer.signature.members[name]
        mine, its = getattr(outer, name), getattr(inner, name)
        for a, b in zip(mine, its) if member.dimensions else [(mine, its)]:
            if not member.is_port:
                wiring.connect(m, wiring.flipped(a), b)
            elif member.flow is In:
                m.d.comb += b.eq(a)
            else:
                m.d.comb += a.eq(b)
