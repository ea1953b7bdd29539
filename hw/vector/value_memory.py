"""The serial vector unit's memory of values: recurrent states, residual x, vector v."""

from __future__ import annotations

from amaranth.hdl import Module, Mux, Signal, signed
from amaranth.lib import wiring
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import In, Out

from tritape.hw.config import Config
from tritape.hw.vector.program import Region


class ValueMemory(wiring.Component):
    """Keeps every vector of `SerialVector` in one block RAM: the states of all layers, then x, then v.

    The candidate c of the MLGRU lies where v comes later.

    Ports
        region: In, `Region`: which vector; `prepared`: In, u1: what `Region.PREPARED` means, 0 for x and 1 for v.
        base: In: where the layer's states begin; index: In: the element.
        read: In, u1: read that element; value: Out, s18: what was read last, from the next cycle on.
        target: In, u1: the element is the one that the next `write` stores to.
        write: In, u1; result: In, s18: store `result`.
        embeds: In, u1; embedding: In, s8: store `embedding` as element `index` of x.
        access, access_address, access_write, access_data: In: the host's access, as in `VectorSignature`; it goes first.

    Rate: a read and a write a cycle. Latency: `LATENCY` cycle of a read.
    Cost: block RAM of (max_layers + 1) max_hidden + the longer of max_hidden and max_intermediate values of 18 bits.
    Tested: inside `SerialVector` (tests/test_hw_vector.py).
    """

    LATENCY = 1

    def __init__(self, config: Config) -> None:
        self._x = config.state_elements
        self._v = self._x + config.max_hidden
        self._depth = self._v + config.max_length
        super().__init__(
            {
                "region": In(2),
                "prepared": In(1),
                "base": In(range(max(2, config.state_elements))),
                "index": In(range(config.max_length + 3)),
                "read": In(1),
                "value": Out(signed(18)),
                "target": In(1),
                "write": In(1),
                "result": In(signed(18)),
                "embeds": In(1),
                "embedding": In(signed(8)),
                "access": In(1),
                "access_address": In(20),
                "access_write": In(1),
                "access_data": In(signed(18)),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        m.submodules.memory = store = Memory(shape=signed(18), depth=self._depth, init=[], attrs={"no_rw_check": 1})
        read, write = store.read_port(), store.write_port()
        start, address = Signal.like(read.addr), Signal.like(read.addr)
        target = Signal.like(read.addr)  # of the next write
        with m.Switch(self.region):
            with m.Case(Region.X):
                m.d.comb += start.eq(self._x)
            with m.Case(Region.V):
                m.d.comb += start.eq(self._v)
            with m.Case(Region.STATE):
                m.d.comb += start.eq(self.base)
            with m.Case(Region.PREPARED):
                m.d.comb += start.eq(Mux(self.prepared, self._v, self._x))
        with m.If(self.embeds):
            m.d.comb += start.eq(self._x)
        m.d.comb += [
            address.eq(start + self.index),
            read.addr.eq(address),
            read.en.eq(self.read | self.access),
            write.addr.eq(target),
            write.data.eq(self.result),
            write.en.eq(self.write | self.embeds | self.access & self.access_write),
            self.value.eq(read.data),
        ]
        with m.If(self.embeds):
            m.d.comb += [write.addr.eq(address), write.data.eq(self.embedding)]
        with m.If(self.access):
            m.d.comb += [address.eq(self.access_address), write.addr.eq(address), write.data.eq(self.access_data)]
        with m.If(self.target):
            m.d.sync += target.eq(address)
        return m
