"""OnChipMemory: what was put in comes out, in order, at a word a cycle."""

from __future__ import annotations

import random

import pytest
from amaranth.hdl import Module, Signal
from amaranth.lib import wiring

from tritape.base.errors import TritapeError
from tritape.hw.memory.onchip import OnChipMemory
from tritape.hw.memory.signature import MemorySignature
from tritape.sim.bench import SIMULATORS, check_streams


class WriteFirst(wiring.Component):
    """The memory, with requests held back until `writes` words have been written."""

    def __init__(self, memory: OnChipMemory, writes: int) -> None:
        self.memory, self.writes = memory, writes
        super().__init__(MemorySignature(memory.groups))

    def elaborate(self, platform: object) -> Module:
        m = Module()
        m.submodules.memory = memory = self.memory
        wiring.connect(m, wiring.flipped(self.words), memory.words)
        wiring.connect(m, wiring.flipped(self.write), memory.write)
        written = Signal(range(self.writes + 1))
        open_ = written == self.writes
        with m.If(self.write.valid & self.write.ready):
            m.d.sync += written.eq(written + 1)
        m.d.comb += [
            memory.requests.valid.eq(self.requests.valid & open_),
            memory.requests.payload.eq(self.requests.payload),
            self.requests.ready.eq(memory.requests.ready & open_),
        ]
        return m


def random_requests(rng: random.Random, words: int, count: int) -> list[tuple[int, int]]:
    requests = [(0, words), (words - 1, 1), (0, 0), (0, 1), (0, 1)]
    for _ in range(count):
        address = rng.randrange(words)
        requests.append((address, rng.randint(0, min(9, words - address))))
    return requests


@pytest.mark.parametrize("simulator", SIMULATORS)
@pytest.mark.parametrize(("groups", "words"), [(4, 300), (13, 100), (16, 1)])
def test_reads_what_init_and_writes_left(groups: int, words: int, simulator: str) -> None:
    rng = random.Random(words)
    image = [int.from_bytes(rng.randbytes(groups), "little") for _ in range(words)]
    init = b"".join(word.to_bytes(groups, "little") for word in image)
    ones = (1 << 8 * groups) - 1
    writes = [
        {"address": at, "word": word} for word in (ones, 0) for at in (0, 1)
    ]  # no memory is smaller than two words
    writes += [{"address": rng.randrange(words), "word": rng.getrandbits(8 * groups)} for _ in range(words // 2 + 1)]
    for write in writes:
        if write["address"] < words:
            image[write["address"]] = write["word"]
    requests = random_requests(rng, words, 30)
    check_streams(
        WriteFirst(OnChipMemory(groups, words, init), len(writes)),
        inputs={"requests": [{"address": at, "length": size} for at, size in requests], "write": writes},
        expected={"words": [word for at, size in requests for word in image[at : at + size]]},
        simulator=simulator,
    )


def test_no_gap_inside_and_between_requests() -> None:
    image = list(range(1, 65))
    requests = [(0, 20), (40, 2), (10, 2), (30, 3), (0, 64)]
    result = check_streams(
        OnChipMemory(4, 64, b"".join(word.to_bytes(4, "little") for word in image)),
        inputs={"requests": [{"address": at, "length": size} for at, size in requests], "write": []},
        expected={"words": [word for at, size in requests for word in image[at : at + size]]},
        input_stall=0,
        output_stall=0,
    )
    cycles = result.transfers["words"]
    assert cycles == list(range(cycles[0], cycles[0] + 91))
    assert result.latency["words"] == OnChipMemory.LATENCY


def test_short_init_is_padded_with_zeros() -> None:
    check_streams(
        OnChipMemory(4, 3, b"\x01\x02\x03\x04\x05"),
        inputs={"requests": [{"address": 0, "length": 3}], "write": []},
        expected={"words": [0x04030201, 5, 0]},
    )


def test_errors() -> None:
    with pytest.raises(TritapeError, match=r"^groups must be at least 4, not 2$"):
        OnChipMemory(2, 8)
    with pytest.raises(TritapeError, match=r"^words must be at least 1, not 0; the memory holds a tape$"):
        OnChipMemory(4, 0)
    with pytest.raises(TritapeError, match=r"^init must be at most 8 bytes, not 9; use a larger memory$"):
        OnChipMemory(4, 2, bytes(9))
