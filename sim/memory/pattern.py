"""Memory contents that are a function of the address, so that a model of any size needs no storage."""

from __future__ import annotations

from amaranth.hdl import Cat, Value

_A, _B = 0x9E37, 0x79B9


def chunk(index: int) -> int:
    """The 16 bits at bytes 2 index, 2 index + 1: different in all neighbours and 65,536 apart."""
    return (index * _A + (index >> 16) * _B + (index >> 5)) & 0xFFFF


def contents(start: int, size: int) -> bytes:
    """`size` bytes from byte `start` on."""
    first = start // 2
    raw = b"".join(chunk(index).to_bytes(2, "little") for index in range(first, (start + size + 1) // 2))
    return raw[start - 2 * first :][:size]


def line(address: Value, line_bytes: int) -> Value:
    """The same in hardware: the line of `line_bytes` (2 or more, a power of two) at byte `address`, a multiple of it."""
    first = address >> 1
    chunks = []
    for number in range(line_bytes // 2):
        index = (first | number)[: len(address)]
        chunks.append((index * _A + (index >> 16) * _B + (index >> 5))[:16])
    return Cat(chunks)
