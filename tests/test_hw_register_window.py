"""RegisterWindow: registers are written in order, everything else reaches the memory behind it, and the start is told."""

from __future__ import annotations

import random

import pytest
from amaranth.hdl import Module
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from tritape.base.errors import TritapeError
from tritape.hw.memory.onchip import OnChipMemory
from tritape.hw.memory.register_window import WINDOW, RegisterWindow
from tritape.hw.memory.signature import MemorySignature
from tritape.hw.stream.forward import forward
from tritape.sim.bench import SIMULATORS, check_streams

WORDS = 64


class Behind(wiring.Component):
    """The window in front of block RAM; register writes come out as a stream whose `ready` is the acknowledgement."""

    def __init__(self, groups: int) -> None:
        self._window = RegisterWindow(groups)
        self._memory = OnChipMemory(groups, WORDS, bytes(groups * WORDS))
        super().__init__(
            {
                **MemorySignature(groups).members,
                "started": In(1, init=1),
                "poked": Out(stream.Signature(data.StructLayout({"register": 16, "value": 32}))),
            }
        )

    def elaborate(self, _platform: object) -> Module:
        m = Module()
        m.submodules.window, m.submodules.memory = window, memory = self._window, self._memory
        forward(m, self, window, MemorySignature(memory.groups).members)
        wiring.connect(m, window.memory, memory)
        m.d.comb += [
            window.started.eq(self.started),
            self.poked.valid.eq(window.cyc & window.stb & window.we),
            self.poked.payload.register.eq(window.adr),
            self.poked.payload.value.eq(window.dat_w),
            window.ack.eq(self.poked.valid & self.poked.ready),
        ]
        return m


@pytest.mark.parametrize("simulator", SIMULATORS)
@pytest.mark.parametrize("groups", [4, 13])
def test_registers_and_memory_each_get_their_own(groups: int, simulator: str) -> None:
    rng = random.Random(groups)
    image, writes, poked = [0] * WORDS, [], []
    for _ in range(60):
        word = rng.getrandbits(8 * groups)
        if rng.random() < 0.5:
            register = rng.getrandbits(16)
            writes.append({"address": WINDOW + register, "word": word})
            poked.append({"register": register, "value": word & 0xFFFF_FFFF})
        else:
            address = rng.randrange(WORDS)
            writes.append({"address": address, "word": word})
            image[address] = word
    asked = [(rng.randrange(WORDS - 8), rng.randrange(1, 8)) for _ in range(12)]
    check_streams(
        Behind(groups),
        inputs={"requests": [{"address": at, "length": size} for at, size in asked], "write": writes},
        expected={"words": [word for at, size in asked for word in image[at : at + size]], "poked": poked},
        after={"requests": [(n, "write", len(writes)) for n in range(len(asked))]},
        simulator=simulator,
    )


@pytest.mark.parametrize("simulator", SIMULATORS)
def test_it_tells_of_the_start(simulator: str) -> None:
    result = check_streams(
        Behind(4),
        inputs={"requests": [{"address": WINDOW, "length": 1}] * 5, "write": []},
        expected={"words": [1] * 5, "poked": []},
        simulator=simulator,
        input_stall=0,
        output_stall=0,
    )
    assert result.latency["words"] == RegisterWindow.LATENCY


def test_few_bytes_are_refused() -> None:
    with pytest.raises(TritapeError, match=r"^groups must be at least 4, not 3; a tape word has no fewer bytes$"):
        RegisterWindow(3)
