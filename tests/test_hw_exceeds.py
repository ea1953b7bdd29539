"""`exceeds` against Python, and against its purpose: no carry chain."""

from __future__ import annotations

from typing import Any

import pytest
from amaranth.hdl import Module, Signal
from amaranth.sim import Simulator

from tritape.hw.exceeds import exceeds


@pytest.mark.parametrize("bits", [1, 4, 6])
def test_every_value_and_limit(bits: int) -> None:
    value = Signal(bits)
    limits = range(2 << bits)
    answers = Signal(len(limits))
    m = Module()
    m.d.comb += [answers[limit].eq(exceeds(value, limit)) for limit in limits]

    async def testbench(ctx: Any) -> None:
        for number in range(1 << bits):
            ctx.set(value, number)
            assert ctx.get(answers) == sum((number > limit) << limit for limit in limits)

    simulator = Simulator(m)
    simulator.add_testbench(testbench)
    simulator.run()
