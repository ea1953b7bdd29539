"""From lines as wide as the memory to words of G bytes."""

from __future__ import annotations

from math import gcd
from typing import NamedTuple

from amaranth.hdl import Module, Mux, Signal, Value
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from tritape.base.errors import TritapeError
from tritape.hw.assertion import check

_LEVELS = 2  # bits of the shift that one register stage decodes: a 4:1 multiplexer


def run_layout() -> data.StructLayout:
    """A run of words: `skip`, units of its first line before the first word; `words`, at least 1."""
    return data.StructLayout({"skip": 16, "words": 32})


class Grain(NamedTuple):
    """Lines of W and words of G bytes in units of gcd(W, G) bytes, the grain of every position in the image."""

    unit: int
    line: int
    word: int
    window: int
    """Units of the lines in which a word can lie, wherever it begins."""


def grain(line_bytes: int, groups: int) -> Grain:
    """`TritapeError` for a W that is no power of two and a G below 4."""
    if line_bytes < 1 or line_bytes & (line_bytes - 1):
        raise TritapeError(f"line_bytes must be a power of two, not {line_bytes!r}")
    if groups < 4:
        raise TritapeError(f"groups must be at least 4, not {groups!r}")
    unit = gcd(line_bytes, groups)
    line, word = line_bytes // unit, groups // unit
    return Grain(unit, line, word, -(-(line - 1 + word) // line) * line)


class Gearbox(wiring.Component):
    """Gives the engine words of G bytes from a memory whose lines have W: word i of a run is bytes skip * unit + i G .. + G of
    its lines.

    All positions are multiples of `unit` = gcd(W, G) bytes, so a power of two that divides both needs no shifter at all.

    Ports
        runs: In stream, {skip u16 in units, below W / unit; words u32, at least 1}.
        lines: In stream, 8 W bits, byte 0 in the low bits. A run takes ceil((skip * unit + words * G) / W) lines; what
        its last line holds behind the last word is dropped.
        words: Out stream, 8 G bits.

    Streams: `words` is a register; all stages stop while a word waits for `words.ready`. `lines.ready` depends on
    `words.ready`.
    Rate: min(G, W) bytes a cycle, except for two cycles between runs.
    Latency: `latency(W, G)` cycles from a line's transfer to the word that it completes: 1 + one register per two levels of
    the shifter (1 if none).
    Cost: about W + G bytes of window, and G bytes a shifter stage. Tested: W = 1..64, G = 4..64.
    Errors: those of `grain`.
    """

    def __init__(self, line_bytes: int, groups: int) -> None:
        self.grain = grain(line_bytes, groups)
        super().__init__(
            {
                "runs": In(stream.Signature(run_layout())),
                "lines": In(stream.Signature(8 * line_bytes)),
                "words": Out(stream.Signature(8 * groups)),
            }
        )

    @staticmethod
    def latency(line_bytes: int, groups: int) -> int:
        """Cycles from the transfer of a word's last line to the word."""
        units = grain(line_bytes, groups)
        bits = (units.window - units.word).bit_length()
        return 1 + max(1, -(-bits // _LEVELS))

    def elaborate(self, platform: object) -> Module:
        m = Module()
        unit, line, word, units = self.grain
        size = 8 * unit
        window = Signal(units * size)  # the last lines, the oldest in the low bits
        position = Signal(range(units + line))  # of the next word in it, in units; beyond its end: lines to come
        left, active, final = Signal(32), Signal(), Signal()
        advance, emit, after = Signal(), Signal(), Signal(range(units + word + line))

        m.d.comb += [
            advance.eq(~self.words.valid | self.words.ready),
            emit.eq(active & advance & (position <= units - word)),
            after.eq(Mux(emit, position + word, position)),
            self.lines.ready.eq(active & ~(emit & final) & (after > units - word)),
        ]
        with m.If(self.runs.valid):
            check(m, platform, self.runs.payload.skip < line, "skip must be below W / unit")
            check(m, platform, self.runs.payload.words != 0, "words must be at least 1")
        with m.If(emit):
            m.d.sync += [left.eq(left - 1), final.eq(left == 2), active.eq(~final)]
        with m.If(self.lines.valid & self.lines.ready):
            m.d.sync += [
                window.eq((self.lines.payload << len(window) - line * size) | (window >> line * size)),
                position.eq(after - line),
            ]
        with m.Else():
            m.d.sync += position.eq(after)
        with m.If(~active):
            m.d.comb += self.runs.ready.eq(1)
            m.d.sync += [
                position.eq(units + self.runs.payload.skip),
                left.eq(self.runs.payload.words),
                final.eq(self.runs.payload.words == 1),
                active.eq(self.runs.valid),
            ]

        value, valid = self._cut(m, window, position, emit, advance)
        m.d.comb += [self.words.payload.eq(value), self.words.valid.eq(valid)]
        return m

    def _cut(self, m: Module, window: Value, position: Value, emit: Value, advance: Value) -> tuple[Value, Value]:
        """Shift the window down by `position`, the high bits of it first, so that the width shrinks stage by stage."""
        unit, _, word, units = self.grain
        size = 8 * unit
        bits = (units - word).bit_length()
        value, shift, valid = window, position[:bits], emit
        while True:
            low = max(0, bits - _LEVELS)
            stays = min(len(value) // size, word + (1 << low) - 1)
            next_value, next_shift, next_valid = Signal(stays * size), Signal(low), Signal()
            with m.If(advance):
                m.d.sync += [next_valid.eq(valid), next_shift.eq(shift[:low])]
                with m.Switch(shift[low:]):
                    for step in range(1 << (bits - low)):
                        with m.Case(step):
                            m.d.sync += next_value.eq(value >> (step << low) * size)
            value, shift, valid, bits = next_value, next_shift, next_valid, low
            if not bits:
                break
        return value, valid
