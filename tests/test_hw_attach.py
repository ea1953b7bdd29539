"""add_memory: streams are connected; a memory with a port for it is told of a restart, any other is reset."""

from __future__ import annotations

import pytest
from amaranth.hdl import Module, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out
from amaranth.sim import Simulator

from tritape.hw.memory.attach import add_memory
from tritape.hw.memory.signature import MemorySignature


class Counter(wiring.Component):
    """Counts cycles in `count` and, if it has that port, restarts in `seen`."""

    def __init__(self, has_port: bool) -> None:
        self.seen = Signal(8)
        super().__init__({**MemorySignature(4).members, "count": Out(8), **({"restart": In(1)} if has_port else {})})

    def elaborate(self, platform: object) -> Module:
        m = Module()
        m.d.comb += self.words.payload.eq(self.requests.payload.address)
        m.d.sync += self.count.eq(self.count + 1)
        if "restart" in self.signature.members:
            m.d.sync += self.seen.eq(self.seen + self.restart)
        return m


@pytest.mark.parametrize(("has_port", "count", "seen"), [(True, 10, 1), (False, 5, 0)])
def test_port_or_reset(has_port: bool, count: int, seen: int) -> None:
    m, memory, restart = Module(), Counter(has_port), Signal()
    port = MemorySignature(4).flip().create()
    add_memory(m, memory, port, restart)

    async def bench(context) -> None:
        for cycle in range(10):
            context.set(restart, cycle == 4)
            context.set(port.requests.payload.address, cycle)
            assert context.get(port.words.payload) == cycle
            await context.tick()
        assert (context.get(memory.count), context.get(memory.seen)) == (count, seen)

    simulator = Simulator(m)
    simulator.add_clock(1e-6)
    simulator.add_testbench(bench)
    simulator.run()
