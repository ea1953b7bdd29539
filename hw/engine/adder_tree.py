"""Registered tree that sums signed values, each with its own sign."""

from __future__ import annotations

from amaranth.hdl import Cat, Module, Signal, Value, signed
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from tritape.hw.engine.add_sub import AddSub


class AdderTree(wiring.Component):
    """Sums what the tables of one engine give for a weight word, which is a tile's share of a row:
    `sum of (-1)^negate[i] * values[i] == (-1)^negated * total`.

    Signs cost no adder bits: a pair with signs s, t is `(-1)^s * (a + (-1)^(s^t) * b)`, so each node adds or
    subtracts and hands its left sign on. `negated`, the sign of the whole sum, is left to the next adder.

    Ports (no streams, no valid: the caller delays it by `latency` enabled cycles)
        enable: In, u1: moves every register.
        values: In, `count` times signed `width`.
        negate: In, `count` bits, given one enabled cycle before its values (the time of the table read).
        total: Out, signed `width + levels`. negated: Out, u1, with `total`.

    Rate: one sum an enabled cycle. Latency: `levels` = ceil(log2 count) enabled cycles from `values` to `total`.
    Cost: `count - 1` chains of `width + level` LUT4 and `count - 1` LUT4 for the signs.
    Tested: 4..26 values, in `TableEngine` (tests/test_hw_engine.py).
    """

    def __init__(self, count: int, width: int) -> None:
        self.levels = (count - 1).bit_length()
        self.latency = self.levels
        super().__init__(
            {
                "enable": In(1),
                "values": In(signed(width)).array(count),
                "negate": In(count),
                "total": Out(signed(width + self.levels)),
                "negated": Out(1),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()

        def delay(value: Value, cycles: int, name: str) -> Value:
            for cycle in range(cycles):
                stage = Signal.like(value, name=f"{name}_{cycle}")
                with m.If(self.enable):
                    m.d.sync += stage.eq(value)
                value = stage
            return value

        # (value, index of the input whose sign the node carries)
        nodes: list[tuple[Value, int]] = [(value, index) for index, value in enumerate(self.values)]
        for level in range(self.levels):
            pairs = []
            differ = [self.negate[left] ^ self.negate[right] for (_, left), (_, right) in zip(nodes[::2], nodes[1::2])]
            subtract = delay(Cat(differ), level + 1, f"subtract{level}")
            for index, ((a, left), (b, _)) in enumerate(zip(nodes[::2], nodes[1::2])):
                width = len(a)
                adder = AddSub(width, width + 1)
                m.submodules[f"addsub_{level}_{index}"] = adder
                node = Signal(signed(width + 1), name=f"node_{level}_{index}")
                m.d.comb += [adder.a.eq(a), adder.b.eq(b), adder.subtract.eq(subtract[index])]
                with m.If(self.enable):
                    m.d.sync += node.eq(adder.result)
                pairs.append((node, left))
            if len(nodes) % 2:
                value, left = nodes[-1]
                wider = Signal(signed(len(value) + 1), name=f"wider_{level}")
                m.d.comb += wider.eq(value)
                pairs.append((delay(wider, 1, f"passed_{level}"), left))
            nodes = pairs
        m.d.comb += [
            self.total.eq(nodes[0][0]),
            self.negated.eq(delay(self.negate[0], self.levels + 1, "negated")),
        ]
        return m
