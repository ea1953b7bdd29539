"""Every backend refuses a word outside itself: it says so, and what it holds stays as it was."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

import pytest
from amaranth.lib import wiring
from amaranth.sim import Simulator

from tritape.hw.memory.onchip import OnChipMemory
from tritape.hw.memory.pages import PagedMemory
from tritape.hw.memory.qspi import SECTOR
from tritape.hw.memory.register_window import WINDOW, RegisterWindow
from tritape.hw.memory.spram import SPRAMMemory
from tritape.sim.memory.flash import QSPIMemoryOnFlash

GROUPS = 4
IMAGE = random.Random(1).randbytes(2 * SECTOR)


def onchip() -> tuple[wiring.Component, int]:
    return OnChipMemory(GROUPS, 300, IMAGE[:1200]), 300


def pages() -> tuple[wiring.Component, int]:
    return PagedMemory(GROUPS, 300, IMAGE[:1200], page=64), 300


def spram() -> tuple[wiring.Component, int]:
    return SPRAMMemory(GROUPS, primitive=False), 1 << 15


def qspi() -> tuple[wiring.Component, int]:
    return QSPIMemoryOnFlash(GROUPS, 2 * SECTOR, IMAGE, SECTOR), SECTOR // GROUPS


def simulate(unit: wiring.Component, script: Callable[[Any], Any]) -> None:
    simulator = Simulator(unit)
    simulator.add_clock(1e-6)
    simulator.add_testbench(script)
    simulator.run()


async def read(context: Any, unit: Any, address: int, length: int, patience: int = 100) -> tuple[list[int], int]:
    """The words that come, and how often `read_failed` was high."""
    words, failures, asked = [], 0, False
    context.set(unit.requests.payload.address, address)
    context.set(unit.requests.payload.length, length)
    context.set(unit.words.ready, 1)
    for _ in range(patience):
        context.set(unit.requests.valid, not asked)
        asked |= bool(context.get(unit.requests.valid & unit.requests.ready))
        failures += context.get(unit.read_failed)
        if context.get(unit.words.valid):
            words.append(context.get(unit.words.payload))
        await context.tick()
    return words, failures


async def write(context: Any, unit: Any, address: int, word: int) -> bool:
    """Whether the word was stored."""
    context.set(unit.write.payload.address, address)
    context.set(unit.write.payload.word, word)
    context.set(unit.write.valid, 1)
    while not context.get(unit.write.ready):
        await context.tick()
    failed = context.get(unit.write_failed)
    await context.tick()
    context.set(unit.write.valid, 0)
    await context.tick().repeat(3)
    return not failed


@pytest.mark.parametrize("make", [onchip, pages, spram, qspi])
def test_a_word_outside_is_not_stored(make: Callable[[], tuple[wiring.Component, int]]) -> None:
    unit, depth = make()
    outside = [depth, depth + 1, 1 << 15, 1 << 24, 1 << 31, 0xFFFF_FFFF, (1 << 22) + 1]

    async def script(context: Any) -> None:
        if make is spram:  # which begins empty
            for address in (0, 1, depth - 1):
                assert await write(context, unit, address, address + 5)
        before = [await read(context, unit, address, 2) for address in (0, depth - 2)]
        for address in outside:
            assert not await write(context, unit, address, 0x5555_5555), f"{address:#x}"
        after = [await read(context, unit, address, 2) for address in (0, depth - 2)]
        assert after == before
        assert [(len(words), failures) for words, failures in after] == [(2, 0), (2, 0)]
        if make is not qspi:  # where it would first erase a sector, for 4096 cycles
            assert await write(context, unit, depth - 1, 0x1234)
            assert (await read(context, unit, depth - 1, 1)) == ([0x1234], 0)

    simulate(unit, script)


@pytest.mark.parametrize(("address", "length"), [(1024, 1), (1023, 2), (0, 1025), (1 << 22, 1), (0xFFFF_FFFF, 2)])
def test_a_read_behind_the_flash(address: int, length: int) -> None:
    """It gives no word, and the next one is right."""
    unit, depth = qspi()

    async def script(context: Any) -> None:
        assert await read(context, unit, address, length) == ([], 1)
        last = int.from_bytes(IMAGE[-GROUPS:], "little")
        assert await read(context, unit, depth - 1, 1) == ([last], 0)
        assert context.get(unit.violations) == 0

    simulate(unit, script)


def test_a_memory_that_is_not_started() -> None:
    """Registers can be written and the start asked for; the memory itself is refused, and never asked."""
    unit = RegisterWindow(GROUPS)

    async def script(context: Any) -> None:
        context.set(unit.ack, 1)
        context.set(unit.closed, 1)
        assert await read(context, unit, 3, 1) == ([], 1)
        assert not await write(context, unit, 3, 7)
        assert await write(context, unit, WINDOW + 9, 7)
        assert await read(context, unit, WINDOW, 1, 10) == ([0], 0)
        context.set(unit.started, 1)
        context.set(unit.closed, 0)
        assert await read(context, unit, WINDOW, 1, 10) == ([1], 0)
        context.set(unit.memory.write.ready, 1)
        assert await write(context, unit, 3, 7)
        context.set(unit.memory.write_failed, 1)
        assert not await write(context, unit, 3, 7)
        context.set(unit.memory.read_failed, 1)
        assert (await read(context, unit, WINDOW, 1, 5))[1] >= 4

    async def never_asked(context: Any) -> None:
        async for *_, closed, asked, written in context.tick().sample(
            unit.closed, unit.memory.requests.valid, unit.memory.write.valid
        ):
            assert not (closed and (asked or written))

    simulator = Simulator(unit)
    simulator.add_clock(1e-6)
    simulator.add_testbench(script)
    simulator.add_process(never_asked)
    simulator.run()
