"""The ports that every memory backend has."""

from __future__ import annotations

from amaranth.hdl import Value
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

Request = data.StructLayout({"address": 32, "length": 32})
"""A run of consecutive words to read; both count words."""


def ends_behind(request: data.View, words: int) -> Value:
    """Whether a request asks for more than a memory of `words` words has."""
    address, length = request.address, request.length
    bits = min(words.bit_length(), 32)  # longer numbers are behind the end by themselves: a short adder will do
    return (address[bits:] | length[bits:]).any() | (address[:bits] + length[:bits] > words)


def write_word(groups: int) -> data.StructLayout:
    """One word to write."""
    return data.StructLayout({"address": 32, "word": 8 * groups})


class MemorySignature(wiring.Signature):
    """What an accelerator asks of its memory: words of G bytes, read in runs, written one at a time. Seen from the memory.

    requests: In stream, {address u32, length u32}: words to read.
    words: Out stream, 8 G bits: the words of the requests in order, byte 0 (the lowest address) in the low bits.
    read_failed: Out u1, one cycle for every error of a read, before the word that it concerns is taken. After an error response
    the word still comes, and is what the bus delivered; after a burst of the wrong length no more words come; nor do any of
    a request outside the memory. The next restart ends either.
    write: In stream, {address u32, word 8 G bits}, only while no read is under way. A transfer says that the word is stored, and
    that the bus has answered, so `ready` may take long.
    write_failed: Out u1, in the cycle of a transfer of `write`: the word is not stored.

    A backend without such errors holds both at 0. In a restart (`add_memory`) the accelerator may take back a `requests.valid`
    or `write.valid` that was not taken: that request is forgotten, that word stored or not.
    """

    def __init__(self, groups: int) -> None:
        self.groups = groups
        super().__init__(
            {
                "requests": In(stream.Signature(Request)),
                "words": Out(stream.Signature(8 * groups)),
                "read_failed": Out(1),
                "write": In(stream.Signature(write_word(groups))),
                "write_failed": Out(1),
            }
        )

    def __eq__(self, other: object) -> bool:
        return isinstance(other, MemorySignature) and other.groups == self.groups
