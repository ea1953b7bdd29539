"""What is counted, a cycle late, and read back by its place in `COUNTERS`."""

from __future__ import annotations

import random
from typing import Any

from amaranth.hdl import Module
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out
from amaranth.sim import Simulator

from tritape.hw.counters import COUNTERS, count

ONE, SEVERAL, REGISTER, ABSENT = COUNTERS[0], COUNTERS[3], COUNTERS[5], COUNTERS[1]


class Counting(wiring.Component):
    def __init__(self) -> None:
        super().__init__({"one": In(1), "several": In(3), "register": In(16), "index": In(5), "counter": Out(32)})

    def elaborate(self, platform: object) -> Module:
        m = Module()
        events = {ONE: self.one, SEVERAL: self.several}
        count(m, events, {REGISTER: self.register}, self.index, self.counter)
        return m


def test_events_add_up() -> None:
    unit, rng = Counting(), random.Random(1)

    async def script(context: Any) -> None:
        total = {ONE: 0, SEVERAL: 0}
        for _ in range(200):
            happened = {ONE: rng.randrange(2), SEVERAL: rng.choice([0, 0, 1, 5, 7])}
            context.set(unit.one, happened[ONE])
            context.set(unit.several, happened[SEVERAL])
            await context.tick()
            total = {name: total[name] + happened[name] for name in total}
        context.set(unit.one, 0)
        context.set(unit.several, 0)
        context.set(unit.register, 0xABCD)
        await context.tick().repeat(5)
        for place, name in enumerate(COUNTERS):
            context.set(unit.index, place)
            assert context.get(unit.counter) == {**total, REGISTER: 0xABCD, ABSENT: 0}.get(name, 0), name

    simulator = Simulator(unit)
    simulator.add_clock(1e-6)
    simulator.add_testbench(script)
    simulator.run()
