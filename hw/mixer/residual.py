"""The vector memory: the residual x, and the vector v in front of a down-projection."""

from __future__ import annotations

from itertools import pairwise

from amaranth.hdl import Cat, Module, Mux, Signal, signed
from amaranth.lib import memory, stream, wiring
from amaranth.lib.wiring import In, Out

from tritape.base.errors import TritapeError
from tritape.hw.assertion import check
from tritape.hw.commands import ResidualCommand, ResidualMode
from tritape.hw.stream.skid import Skid

VALUE_MAX = 131071


class Residual(wiring.Component):
    """Keeps the two vectors that projections start from: x (region 0), the residual to which every layer adds, and v (region
    1), the vector in front of a down-projection. A `Lane` has one in front of its norm. `x[j] = sat18(x[j] + y[j])`.

    Ports
        `commands` (In stream, `ResidualCommand`): `mode` (`ResidualMode`); `region`; `length` must be 1..size of the region.
        Every command starts at element 0.
        `elements` (In stream): signed 18; `length` of them for store and accumulate, none for read.
        `vector` (Out stream): signed 18; `length` of them: what is read, or what is written (x after accumulate).
        `saturated` (Out, 1): high for one cycle for each element that the saturation changed.
        `written_valid` (Out, 1), `written` (Out, signed 18): tap for simulation, high for one cycle for each element written.

    Rate: one element a cycle. Between two commands `vector` has `LATENCY` idle cycles: a command is taken while the
    last element of the one before leaves and is written.
    Latency: `LATENCY` cycles from an element to `vector`, `LATENCY + 1` from a read command.
    Cost: block RAM of `max_hidden + max_intermediate` words of 18 bits.
    Tested: all modes and both regions, lengths from 1, saturation at both ends, against `arith.sat18`.
    Raises `TritapeError` for sizes that cannot be. Source: docs/contract.md "Residual".
    """

    LATENCY = 4

    def __init__(self, max_hidden: int, max_intermediate: int) -> None:
        for name, value in (("max_hidden", max_hidden), ("max_intermediate", max_intermediate)):
            if not 1 <= value <= 16384:
                raise TritapeError(f"{name} must be 1..16384, not {value!r}")
        self._max_hidden = max_hidden
        self._depth = max_hidden + max_intermediate
        super().__init__(
            {
                "commands": In(stream.Signature(ResidualCommand)),
                "elements": In(stream.Signature(signed(18))),
                "vector": Out(stream.Signature(signed(18))),
                "saturated": Out(1),
                "written_valid": Out(1),
                "written": Out(signed(18)),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        m.submodules.memory = store = memory.Memory(
            shape=signed(18),
            depth=self._depth,
            init=[],
            attrs={"no_rw_check": 1},  # a word is never read while it is written, so Yosys need not build the bypass
        )
        write = store.write_port()
        read = store.read_port()
        m.submodules.skid = skid = Skid(signed(18))
        wiring.connect(m, skid.sink, wiring.flipped(self.vector))

        given = self.commands.payload
        with m.If(self.commands.valid):
            size = Mux(given.region, self._depth - self._max_hidden, self._max_hidden)
            check(m, platform, (given.length >= 1) & (given.length <= size), "`length` must be 1..size of the region")

        busy = Signal()
        mode = Signal(2)
        left = Signal(15)
        address = Signal(range(self._depth))
        advance = Signal()
        issue = Signal()
        valid = Signal(self.LATENCY)
        m.d.comb += [
            advance.eq(~skid.source.valid | skid.source.ready),
            issue.eq(busy & ((mode == ResidualMode.READ) | self.elements.valid)),
            self.elements.ready.eq(busy & (mode != ResidualMode.READ) & advance),
            self.commands.ready.eq(~busy & ~valid[:-1].any() & advance),
            read.addr.eq(address),
            read.en.eq(advance),
        ]
        with m.If(issue & advance):
            m.d.sync += [address.eq(address + 1), left.eq(left - 1), busy.eq(left != 0)]
        with m.If(self.commands.valid & self.commands.ready):
            m.d.sync += [
                busy.eq(1),
                mode.eq(self.commands.payload.mode),
                left.eq(self.commands.payload.length - 1),
                address.eq(Mux(self.commands.payload.region, self._max_hidden, 0)),
            ]

        # 1: memory output and element; 2: operands; 3: sum; 4: saturated, then written and given out
        element = Signal(signed(18))
        stored = Signal(signed(18))
        added = Signal(signed(18))
        total = Signal(signed(19))
        addresses = [Signal.like(address, name=f"address_{stage}") for stage in range(1, self.LATENCY + 1)]
        over = Signal()
        m.d.comb += [
            over.eq(Mux(total[18], ~total[17] | ~total[:17].any(), total[17])),
            skid.source.valid.eq(valid[-1]),
            write.addr.eq(addresses[-1]),
            write.data.eq(skid.source.payload),
            write.en.eq(valid[-1] & (mode != ResidualMode.READ)),
        ]
        with m.If(advance):
            m.d.sync += [
                valid.eq(Cat(issue, valid)),
                element.eq(self.elements.payload),
                stored.eq(Mux(mode == ResidualMode.STORE, 0, read.data)),
                added.eq(Mux(mode == ResidualMode.READ, 0, element)),
                total.eq(stored + added),
                skid.source.payload.eq(Mux(over, Mux(total[18], -VALUE_MAX, VALUE_MAX), total)),
                addresses[0].eq(address),
            ]
            m.d.sync += [after.eq(before) for before, after in pairwise(addresses)]
        m.d.sync += self.saturated.eq(advance & valid[-2] & over)
        m.d.comb += [self.written_valid.eq(write.en & advance), self.written.eq(write.data)]
        return m
