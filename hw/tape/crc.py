"""CRC-32 of a stream of words, one word a cycle."""

from __future__ import annotations

import functools
import zlib

from amaranth.hdl import Cat, Const, Module, Mux, Signal, Value
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from tritape.base.errors import TritapeError

POLYNOMIAL = 0xEDB88320
"""CRC-32 of zlib, IEEE 802.3, reflected: the coefficient of x^0 is bit 31."""

CHUNK = 16
"""Bytes that one registered XOR network covers."""


def advance(state: int, word: bytes) -> int:
    """The plain CRC register after `word`, a byte at a time, low bit first; no complement at either end."""
    for byte in word:
        state ^= byte
        for _ in range(8):
            state = state >> 1 ^ (POLYNOMIAL if state & 1 else 0)
    return state


def _combine(columns: list[int], vector: int) -> int:
    """Matrix (its columns as integers) times vector, over GF(2)."""
    result = 0
    for index, column in enumerate(columns):
        if vector >> index & 1:
            result ^= column
    return result


def _inverse(columns: list[int]) -> list[int]:
    """Columns of the inverse of a 32 x 32 matrix over GF(2)."""
    pairs = [(column, 1 << index) for index, column in enumerate(columns)]
    for bit in range(32):
        pivot = next(index for index in range(bit, 32) if pairs[index][0] >> bit & 1)
        pairs[bit], pairs[pivot] = pairs[pivot], pairs[bit]
        for index in range(32):
            if index != bit and pairs[index][0] >> bit & 1:
                pairs[index] = (pairs[index][0] ^ pairs[bit][0], pairs[index][1] ^ pairs[bit][1])
    return [combination for _, combination in pairs]


@functools.cache
def matrices(groups: int) -> tuple[list[int], int, int, int]:
    """What a word does to the CRC register, in coordinates where the register feeds back to itself through one XOR a bit.

    Let M be the 32 x 32 matrix of `groups` zero bytes. In the basis v, M v, .., M^31 v, M is a shift plus one column.
    Returns (columns: what each bit of a word adds to the state; feedback: that column; start: the state after M of the
    initial register; good: the state after a section whose last word is its CRC padded with zeros).
    """
    basis = [1]
    for _ in range(32):
        basis.append(advance(basis[-1], bytes(groups)))
    inverse = _inverse(basis[:32])
    columns = []
    for bit in range(8 * groups):
        word = bytearray(groups)
        word[bit // 8] = 1 << bit % 8
        columns.append(_combine(inverse, advance(0, bytes(word))))
    feedback = _combine(inverse, basis[32])
    start = _combine(inverse, advance(0xFFFFFFFF, bytes(groups)))
    zeros = bytes(groups)
    last = zlib.crc32(zeros).to_bytes(4, "little") + bytes(groups - 4)
    good = advance(advance(0xFFFFFFFF, zeros), last)
    return columns, feedback, start, _combine(inverse, good)


def _xor_tree(terms: list[Value]) -> Value:
    """XOR of all terms, balanced: technology mapping does not rebalance XORs."""
    while len(terms) > 1:
        terms = [left ^ right for left, right in zip(terms[::2], terms[1::2])] + terms[len(terms) & ~1 :]
    return terms[0]


class CRC32(wiring.Component):
    """Checks the CRC-32 (zlib's) of a section at one word of G bytes a cycle.

    A section is any number of words (at least one), then one word with the CRC of all bytes before in its low 4 bytes
    and zeros above. The CRC word goes through the same register: after it, a good section always leaves the same
    constant, so nothing is stored and compared.

        d = B w;   s' = C s + d   (s = initial at `first`);   good = (s == constant after the CRC word)

    over GF(2), in the basis in which C is a shift with one feedback column (`matrices`), so that one LUT4 a bit is the
    only loop. B is a feed-forward XOR network, registered per 16 bytes.

    Ports
        word: In 8 G; valid: In 1, a word comes this cycle; first: In 1, it begins a section; last: In 1, it is the CRC.
        done: Out 1, `LATENCY` cycles after a `last` word, for one cycle; good: Out 1, meaningful with `done`.

    Latency: `LATENCY` = 2 cycles. Rate: a word each cycle, sections back to back. No stall: a pipeline without ready.
    Cost (ECP5, G = 16): 523 LUT4, 68 flip-flops; no block RAM, no multiplier. Tested: G = 4, 5, 13, 16, 37 against `zlib.crc32`.
    Errors: `TritapeError` for G < 4. Source: Derby, "High-speed CRC computation using state-space transformations" (2001).
    """

    LATENCY = 2

    def __init__(self, groups: int) -> None:
        if groups < 4:
            raise TritapeError(f"groups must be at least 4, not {groups!r}; a CRC needs 4 bytes of a word")
        self.groups = groups
        super().__init__(
            {"word": In(8 * groups), "valid": In(1), "first": In(1), "last": In(1), "done": Out(1), "good": Out(1)}
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        columns, feedback, start, good = matrices(self.groups)
        partials = []
        for low in range(0, 8 * self.groups, 8 * CHUNK):
            high = min(low + 8 * CHUNK, 8 * self.groups)
            # Column by column rather than row by row: the same LUTs, and a simulator does it in a few instructions a bit.
            terms = [Mux(self.word[bit], Const(columns[bit], 32), Const(0, 32)) for bit in range(low, high)]
            partial = Signal(32, name=f"partial_{low // 8}")
            m.d.sync += partial.eq(_xor_tree(terms))
            partials.append(partial)

        valid, first, last, state = Signal(), Signal(), Signal(), Signal(32)
        m.d.sync += [valid.eq(self.valid), first.eq(self.first), last.eq(self.last), self.done.eq(valid & last)]
        with m.If(valid):
            for bit in range(32):
                loop = state[bit - 1] if bit else 0
                if feedback >> bit & 1:
                    loop = loop ^ state[31]
                added = Cat(partial[bit] for partial in partials).xor()
                begin = start >> bit & 1
                m.d.sync += state[bit].eq(added ^ ((first & begin) | (~first & loop)))
        m.d.comb += self.good.eq(state == good)
        return m
