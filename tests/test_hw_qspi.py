"""QSPIMemory at a model of a serial flash: reading, erasing, programming, restarts."""

from __future__ import annotations

import random
from typing import Any

import pytest
from amaranth.hdl import Module, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import Out

from tritape.base.errors import TritapeError
from tritape.hw.memory.qspi import QSPIMemory
from tritape.hw.memory.signature import MemorySignature
from tritape.sim.bench import check_streams
from tritape.sim.memory.flash import QSPIMemoryOnFlash

SIZE = 1 << 14


def words_of(image: bytes, groups: int, base: int = 0) -> list[int]:
    return [int.from_bytes(image[at : at + groups], "little") for at in range(base, len(image) - groups + 1, groups)]


def requests(rng: random.Random, words: int) -> list[tuple[int, int]]:
    picked = [(0, 40), (words - 1, 1), (3, 0), (0, 1)]
    for _ in range(6):
        address = rng.randrange(words)
        picked.append((address, rng.randint(0, min(9, words - address))))
    return picked


@pytest.mark.parametrize(
    ("groups", "base", "pad_cycles", "simulator"),
    [(8, 0, 0, "icarus"), (13, 4096, 2, "verilator"), (4, 8192, 3, "icarus")],
)
def test_reads(groups: int, base: int, pad_cycles: int, simulator: str) -> None:
    rng = random.Random(groups)
    image = rng.randbytes(SIZE)
    words = words_of(image, groups, base)
    asked = requests(rng, len(words))
    check_streams(
        QSPIMemoryOnFlash(groups, SIZE, image, base, pad_cycles),
        inputs={"requests": [{"address": at, "length": size} for at, size in asked], "write": []},
        expected={"words": [word for at, size in asked for word in words[at : at + size]]},
        finals={"violations": 0},
        output_stall=0.8,
        simulator=simulator,
    )


@pytest.mark.parametrize("pad_cycles", [0, 2])
def test_four_bits_a_clock(pad_cycles: int) -> None:
    image = random.Random(1).randbytes(SIZE)
    result = check_streams(
        QSPIMemoryOnFlash(8, SIZE, image, 0, pad_cycles),
        inputs={"requests": [{"address": 2, "length": 200}], "write": []},
        expected={"words": words_of(image, 8)[2:202]},
        input_stall=0,
        output_stall=0,
    )
    cycles = result.transfers["words"]
    assert cycles == list(range(cycles[0], cycles[0] + 200 * 16, 16))
    assert result.latency["words"] == QSPIMemory.LATENCY + pad_cycles + 16


@pytest.mark.parametrize(("groups", "base"), [(8, 0), (13, 4096)])
def test_writes_erase_and_program(groups: int, base: int) -> None:
    """Over old contents, across a sector; what was not written stays as it was or was erased."""
    rng = random.Random(groups)
    image = bytearray(rng.randbytes(SIZE))
    sector = 4096 // groups  # the word in front of the second sector's first whole one
    addresses = [*range(20), *range(sector - 2, sector + 3), sector + 60]  # three stretches: two pages left half full
    writes = [{"address": at, "word": rng.getrandbits(8 * groups)} for at in addresses]
    old = bytes(image)
    for start in (base, base + 4096):
        image[start : start + 4096] = b"\xff" * 4096
    for write in writes:
        at = base + write["address"] * groups
        image[at : at + groups] = write["word"].to_bytes(groups, "little")
    final = words_of(bytes(image), groups, base)
    asked = [(0, 40), (sector - 10, 90)]
    check_streams(
        QSPIMemoryOnFlash(groups, SIZE, old, base),
        inputs={"requests": [{"address": at, "length": size} for at, size in asked], "write": writes},
        expected={"words": [word for at, size in asked for word in final[at : at + size]]},
        finals={"violations": 0},
        after={"requests": [(n, "write", len(writes)) for n in range(len(asked))]},
        input_stall=0.1,
        output_stall=0.1,
        max_cycles=60_000,
        simulator="icarus",
    )


class Restarting(wiring.Component):
    """After `count` words and `wait` cycles a restart; what is asked next comes after it."""

    def __init__(self, memory: QSPIMemoryOnFlash, groups: int, count: int, wait: int) -> None:
        self.memory, self.count, self.wait = memory, count, wait
        super().__init__({**MemorySignature(groups).members, "violations": Out(16)})

    def elaborate(self, platform: object) -> Module:
        m = Module()
        m.submodules.memory = memory = self.memory
        wiring.connect(m, wiring.flipped(self.write), memory.write)
        words, asked, waited = Signal(16), Signal(), Signal(16)
        stopped, done = words == self.count, waited == self.wait
        m.d.comb += [
            memory.restart.eq(asked & stopped & (waited == self.wait - 1)),
            memory.requests.payload.eq(self.requests.payload),
            memory.requests.valid.eq(self.requests.valid & (~asked | done)),
            self.requests.ready.eq(memory.requests.ready & (~asked | done)),
            self.words.payload.eq(memory.words.payload),
            self.words.valid.eq(memory.words.valid & (~stopped | done)),
            memory.words.ready.eq(self.words.ready & (~stopped | done)),
            self.violations.eq(memory.violations),
        ]
        m.d.sync += asked.eq(asked | (self.requests.valid & self.requests.ready))
        with m.If(asked & stopped & ~done):
            m.d.sync += waited.eq(waited + 1)
        with m.If(self.words.valid & self.words.ready & ~stopped):
            m.d.sync += words.eq(words + 1)
        return m


@pytest.mark.parametrize(("count", "wait"), [(0, 1), (0, 19), (0, 30), (2, 1), (2, 15), (2, 16), (3, 90)])
def test_restart_forgets_the_request(count: int, wait: int) -> None:
    image = random.Random(count).randbytes(SIZE)
    words = words_of(image, 8)
    options: dict[str, Any] = {"input_stall": 0, "output_stall": 0}
    check_streams(
        Restarting(QSPIMemoryOnFlash(8, SIZE, image, 0, 1), 8, count, wait),
        inputs={"requests": [{"address": 7, "length": 300}, {"address": 100, "length": 5}], "write": []},
        expected={"words": words[7 : 7 + count] + words[100:105]},
        finals={"violations": 0},
        simulator="icarus",
        **options,
    )


def test_errors() -> None:
    with pytest.raises(TritapeError, match=r"^groups must be at least 4, not 3$"):
        QSPIMemory(3)
    with pytest.raises(TritapeError, match=r"^base must be a multiple of 4096 below 16777216, not 5000$"):
        QSPIMemory(8, base=5000)
    with pytest.raises(
        TritapeError, match=r"^size must be a power of two in 4096\.\.16777216, not 5000; 24 bits address a byte$"
    ):
        QSPIMemory(8, size=5000)
    with pytest.raises(TritapeError, match=r"^base must be a multiple of 4096 below 8192, not 8192$"):
        QSPIMemory(8, base=8192, size=8192)
    with pytest.raises(TritapeError, match=r"^pad_cycles must be in 0\.\.3, not 4$"):
        QSPIMemory(8, pad_cycles=4)
