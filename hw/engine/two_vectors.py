"""Which of two vectors is written and which is read, for the memories of activations."""

from __future__ import annotations

from typing import NamedTuple

from amaranth.hdl import Module, Signal, Value

from tritape.hw.assertion import check


class TwoVectors(NamedTuple):
    """`some`: at least one whole vector is held; `full`: two; `write`, `read`: which buffer."""

    some: Signal
    full: Signal
    write: Signal
    read: Signal


def two_vectors(m: Module, platform: object, ended: Value, release: Value) -> TwoVectors:
    """Registers that count whole vectors, 0..2, and turn the buffers.

    ended: the last element of a vector is taken; release: the vector that is read is forgotten, which must not be before.
    """
    some, full = Signal(), Signal()
    write_buffer, read_buffer = Signal(), Signal()
    m.d.sync += [write_buffer.eq(write_buffer ^ ended), read_buffer.eq(read_buffer ^ release)]
    with m.If(ended & ~release):
        m.d.sync += [some.eq(1), full.eq(some)]
    with m.Elif(release & ~ended):
        m.d.sync += [some.eq(full), full.eq(0)]
    with m.If(release):
        check(m, platform, some, "a vector must not be released before its `last` was taken")
    return TwoVectors(some, full, write_buffer, read_buffer)
