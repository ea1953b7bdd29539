"""Planner, WordBytes and multiplication by constants: what stands between word addresses and memory addresses."""

from __future__ import annotations

import random
from typing import Any

import pytest
from amaranth.hdl import Module
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out
from amaranth.sim import Simulator

from tritape.base.errors import TritapeError
from tritape.hw.memory.gearbox import grain
from tritape.hw.memory.planner import Planner
from tritape.hw.memory.times import times
from tritape.hw.memory.word_bytes import WordBytes
from tritape.sim.bench import check_streams

REQUESTS = [(0, 1), (0, 0), (1, 1), (7, 0), (3, 1000), (100, 1), (1 << 27, 1 << 27)]


@pytest.mark.parametrize(("line_bytes", "groups", "ports"), [(16, 16, 1), (2, 26, 1), (64, 13, 4), (16, 5, 2)])
def test_lines_hold_the_words(line_bytes: int, groups: int, ports: int) -> None:
    rng = random.Random(groups)
    requests = REQUESTS + [(rng.getrandbits(26), rng.getrandbits(20) + 1) for _ in range(20)]
    fetches, runs = [], []
    for address, length in requests:
        first, last = address * groups, (address + length) * groups - 1
        if length:
            lines = last // line_bytes - first // line_bytes + 1
            fetches.append({"line": first // line_bytes, "count": lines})
            runs.append({"skip": first % line_bytes // grain(line_bytes, groups).unit, "words": length})
    check_streams(
        Planner(line_bytes, groups, ports),
        inputs={"requests": [{"address": address, "length": length} for address, length in requests]},
        expected={"runs": runs, **{f"fetches.{port}": fetches for port in range(ports)}},
        simulator="icarus",
    )


def test_planner_latency() -> None:
    result = check_streams(
        Planner(16, 13),
        inputs={"requests": [{"address": 5, "length": 2}]},
        expected={"runs": None, "fetches.0": None},
        input_stall=0,
        output_stall=0,
        simulator="icarus",
    )
    assert result.latency == {"runs": Planner.LATENCY, "fetches.0": Planner.LATENCY}


@pytest.mark.parametrize("groups", [4, 13, 26])
def test_bytes_of_words(groups: int) -> None:
    rng = random.Random(groups)
    writes = [(0, 0), ((1 << 32) - 1, (1 << 8 * groups) - 1)]
    writes += [(rng.getrandbits(32), rng.getrandbits(8 * groups)) for _ in range(8)]
    expected = [
        {"address": address * groups + at, "data": word >> 8 * at & 0xFF, "last": int(at == groups - 1)}
        for address, word in writes
        for at in range(groups)
    ]
    unit = WordBytes(groups)
    inputs = {"write": [{"address": address, "word": word} for address, word in writes]}
    check_streams(unit, inputs=inputs, expected={"bytes": expected}, simulator="icarus")
    result = check_streams(
        unit, inputs=inputs, expected={"bytes": expected}, input_stall=0, output_stall=0, simulator="icarus"
    )
    words, given = result.transfers["write"], result.transfers["bytes"]
    assert [at - last for at, last in zip(words, given[groups - 1 :: groups], strict=True)] == [1] * len(words)
    assert words[1] - words[0] == groups + 2


def test_a_word_outside_or_given_up() -> None:
    """Outside: no byte, and failed. Given up in a restart: all its bytes, but no transfer. A failed byte: the word failed."""
    unit = WordBytes(4, words=8)
    simulator = Simulator(unit)

    async def script(context: Any) -> None:
        async def cycles(address: int, count: int, ready: int = 1) -> tuple[list[int], list[int]]:
            """Addresses of the bytes that were transferred, and `write_failed` where the word was."""
            context.set(unit.write.payload.address, address)
            context.set(unit.bytes.ready, ready)
            given, taken = [], []
            for _ in range(count):
                if context.get(unit.bytes.valid & unit.bytes.ready):
                    given.append(context.get(unit.bytes.payload.address))
                context.set(unit.byte_failed, bool(given) and given[-1] == 9)
                if context.get(unit.write.valid & unit.write.ready):
                    taken.append(context.get(unit.write_failed))
                await context.tick()
                context.set(unit.restart, 0)
                if taken:
                    context.set(unit.write.valid, 0)
            return given, taken

        for address, given, taken in [
            (7, [28, 29, 30, 31], [0]),
            (8, [], [1]),
            (2, [8, 9, 10, 11], [1]),
            (3, [12, 13, 14, 15], [0]),
        ]:
            context.set(unit.write.valid, 1)
            assert await cycles(address, 12) == (given, taken)
        context.set(unit.write.valid, 1)
        assert await cycles(1, 5, ready=0) == ([], [])
        context.set(unit.restart, 1)
        context.set(unit.write.valid, 0)
        assert await cycles(1, 2, ready=0) == ([], [])
        context.set(unit.write.valid, 1)
        assert await cycles(5, 20) == ([4, 5, 6, 7, 20, 21, 22, 23], [0])

    simulator.add_clock(1e-6)
    simulator.add_testbench(script)
    simulator.run()


class Times(wiring.Component):
    """`y` = `x` times a constant."""

    def __init__(self, constant: int) -> None:
        self.constant = constant
        super().__init__({"x": In(stream.Signature(8)), "y": Out(stream.Signature(16))})

    def elaborate(self, platform: object) -> Module:
        m = Module()
        product = times(self.x.payload, self.constant)
        assert len(product) == 8 + (self.constant - 1).bit_length()
        m.d.comb += [self.y.payload.eq(product), self.y.valid.eq(self.x.valid), self.x.ready.eq(self.y.ready)]
        return m


@pytest.mark.parametrize("constant", [1, 4, 5, 13, 31, 255])
def test_times(constant: int) -> None:
    values = [0, 1, 2, 3, 100, 254, 255]
    check_streams(
        Times(constant),
        inputs={"x": values},
        expected={"y": [value * constant for value in values]},
        simulator="icarus",
    )


def test_errors() -> None:
    with pytest.raises(TritapeError, match=r"^ports must be at least 1, not 0$"):
        Planner(16, 16, 0)
