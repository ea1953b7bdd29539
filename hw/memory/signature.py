"""The ports that every memory backend has."""

from __future__ import annotations

from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

Request = data.StructLayout({"address": 32, "length": 32})
"""A run of consecutive words to read; both count words."""


def write_word(groups: int) -> data.StructLayout:
    """One word to write."""
    return data.StructLayout({"address": 32, "word": 8 * groups})


class MemorySignature(wiring.Signature):
    """A memory of words of G bytes, seen from the memory.

    requests: In stream, {address u32, length u32}; words: Out stream, 8 G bits, the words of the requests in order,
    byte 0 (the lowest address) in the low bits; write: In stream, {address u32, word 8 G bits}, only while no read
    is under way.
    """

    def __init__(self, groups: int) -> None:
        self.groups = groups
        super().__init__(
            {
                "requests": In(stream.Signature(Request)),
                "words": Out(stream.Signature(8 * groups)),
                "write": In(stream.Signature(write_word(groups))),
            }
        )

    def __eq__(self, other: object) -> bool:
        return isinstance(other, MemorySignature) and other.groups == self.groups
