"""Row accumulator, both ways to saturate, against Python."""

from __future__ import annotations

import random
from typing import Any

import pytest
from amaranth.sim import Simulator

from tritape.hw.config import Config
from tritape.hw.engine.row_accumulator import RowAccumulator, latency


@pytest.mark.parametrize("serial", [False, True])
def test_sums_and_saturations_with_a_receiver_that_waits(serial: bool) -> None:
    rng = random.Random(3)
    config = Config(groups=4, max_hidden=16384, max_rows=64, serial=serial)
    dut, tiles, rows = RowAccumulator(config, 22), 2, 40
    slices = [(row, tile, rng.choice((-1, 1)) * rng.choice((65535, 65536, 70000, 0, rng.randrange(1 << 20))))
              for tile in range(tiles) for row in range(rows)]  # fmt: skip
    signs = [rng.randrange(2) for _ in slices]
    sums = [
        sum((-1) ** sign * total for (at, _, total), sign in zip(slices, signs) if at == row) for row in range(rows)
    ]
    expected = [max(-131071, min(131071, value)) for value in sums]
    seen: list[int] = []
    clamps = 0

    async def testbench(ctx: Any) -> None:
        nonlocal clamps
        issued = 0
        pipeline: list[int | None] = [None] * (RowAccumulator.SUM_DELAY + 1)
        for _ in range(600):
            ready = rng.random() < 0.7
            ctx.set(dut.rows.ready, ready)
            offer = slices[issued] if issued < len(slices) and rng.random() < 0.8 else None
            ctx.set(dut.valid, offer is not None)
            if offer is not None:
                row, tile, _ = offer
                ctx.set(dut.row, row)
                ctx.set(dut.first, tile == 0)
                ctx.set(dut.last, tile == tiles - 1)
            moving = ctx.get(dut.advance)
            pipeline[0] = issued if offer is not None else None
            due = pipeline[RowAccumulator.SUM_DELAY]
            if due is not None:
                ctx.set(dut.total, slices[due][2])
                ctx.set(dut.negated, signs[due])
            if ready and ctx.get(dut.rows.valid):
                seen.append(ctx.get(dut.rows.payload))
            clamps += ctx.get(dut.saturated)
            await ctx.tick()
            if moving:
                issued += offer is not None
                pipeline = [None, *pipeline[:-1]]

    simulator = Simulator(dut)
    simulator.add_clock(1e-6)
    simulator.add_testbench(testbench)
    simulator.run()
    assert seen == expected
    assert clamps == sum(value != clamped for value, clamped in zip(sums, expected)) > 0
    assert latency(config) == (5 if serial else 7)
