"""CRC32 against zlib: right and wrong sections of random lengths, a word a cycle and with gaps."""

from __future__ import annotations

import random
import zlib

import pytest
from amaranth.hdl import Module
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from tritape.base.errors import TritapeError
from tritape.hw.tape.crc import CRC32, advance
from tritape.sim.bench import SIMULATORS, check_streams


class Harness(wiring.Component):
    """CRC32 behind a stream; the verdicts are a stream that must always be ready."""

    def __init__(self, groups: int) -> None:
        self.crc = CRC32(groups)
        word = data.StructLayout({"word": 8 * groups, "first": 1, "last": 1})
        super().__init__({"words": In(stream.Signature(word)), "good": Out(stream.Signature(1))})

    def elaborate(self, platform: object) -> Module:
        m = Module()
        m.submodules.crc = crc = self.crc
        m.d.comb += [
            self.words.ready.eq(1),
            crc.valid.eq(self.words.valid),
            crc.word.eq(self.words.payload.word),
            crc.first.eq(self.words.payload.first),
            crc.last.eq(self.words.payload.last),
            self.good.valid.eq(crc.done),
            self.good.payload.eq(crc.good),
        ]
        return m


def sections(groups: int, count: int) -> tuple[list[dict[str, int]], list[int], list[int]]:
    """Words, verdicts, and for each verdict the index of its CRC word. Two thirds are right."""
    rng = random.Random(groups)
    words, good, ends = [], [], []
    for number in range(count):
        content = bytearray(rng.randbytes(groups * rng.choice([1, 1, 2, 3, 5, 17])))
        if number == 0:
            content = bytearray(groups)
        if number == 1:
            content = bytearray(b"\xff" * groups * 2)
        content += zlib.crc32(content).to_bytes(4, "little") + bytes(groups - 4)
        good.append(int(number % 3 != 2))
        if not good[-1]:
            bit = rng.randrange(8 * len(content)) if number % 2 else 8 * (len(content) - groups) + rng.randrange(32)
            content[bit // 8] ^= 1 << bit % 8
        total = len(content) // groups
        for index in range(total):
            word = int.from_bytes(content[index * groups : (index + 1) * groups], "little")
            words.append({"word": word, "first": int(index == 0), "last": int(index == total - 1)})
        ends.append(len(words) - 1)
    return words, good, ends


@pytest.mark.parametrize("simulator", SIMULATORS)
@pytest.mark.parametrize("groups", [4, 5, 13, 16, 37])
def test_verdicts_and_latency(groups: int, simulator: str) -> None:
    words, good, ends = sections(groups, 60)
    for stall in (0.0, 0.4):
        result = check_streams(
            Harness(groups),
            inputs={"words": words},
            expected={"good": good},
            input_stall=stall,
            output_stall=0,
            simulator=simulator,
        )
        delays = {done - result.transfers["words"][end] for done, end in zip(result.transfers["good"], ends)}
        assert delays == {CRC32.LATENCY}


def test_register_is_the_one_of_zlib() -> None:
    for text in (b"", b"a", b"123456789", bytes(range(256))):
        assert advance(0xFFFFFFFF, text) ^ 0xFFFFFFFF == zlib.crc32(text)


def test_words_below_four_bytes_are_refused() -> None:
    with pytest.raises(TritapeError, match=r"^groups must be at least 4, not 3; a CRC needs 4 bytes of a word$"):
        CRC32(3)
