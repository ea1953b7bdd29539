"""Writes a list of values over Wishbone once after reset: what starts a memory without a processor."""

from __future__ import annotations

from collections.abc import Sequence

from amaranth.hdl import Const, Module, Signal
from amaranth.lib import data, wiring
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import In, Out

from tritape.base.errors import TritapeError

Write = tuple[int, int, int]  # word address, value, cycles to wait behind it


class WishboneScript(wiring.Component):
    """Starts a memory's controller where there is no processor: performs the writes of `script`, then raises `done`.

    A write is (word address u16, value u16, cycles to wait behind it u16).

    Ports: adr: Out u16; dat_w: Out u16; cyc, stb, we: the same Out u1; ack: In u1; done: Out u1, high for good.
    Rate: 4 cycles a write, its acknowledgement and its wait. Cost: a block RAM or LUTs for the list, 50 flip-flops.
    Tested: lists of 1 to 30 writes. Errors: `TritapeError` for an empty list and a number of more than 16 bits.
    """

    def __init__(self, script: Sequence[Write]) -> None:
        if not script:
            raise TritapeError("script must have at least one write, not none")
        for write in script:
            if not all(0 <= number <= 0xFFFF for number in write):
                raise TritapeError(f"script must hold numbers of 16 bits, not {write!r}")
        self.script = list(script)
        super().__init__(
            {"adr": Out(16), "dat_w": Out(16), "cyc": Out(1), "stb": Out(1), "we": Out(1), "ack": In(1), "done": Out(1)}
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        entry = data.StructLayout({"address": 16, "value": 16, "cycles": 16})
        init = [{"address": address, "value": value, "cycles": cycles} for address, value, cycles in self.script]
        m.submodules.memory = memory = Memory(shape=entry, depth=max(2, len(init)), init=init)
        port = memory.read_port()
        index, wait = Signal(range(len(init) + 1)), Signal(16)
        write = port.data
        m.d.comb += [port.en.eq(Const(1)), port.addr.eq(index), self.stb.eq(self.cyc), self.we.eq(self.cyc)]
        with m.FSM():
            with m.State("READ"):
                m.next = "WRITE"
            with m.State("WRITE"):
                m.d.sync += [
                    self.adr.eq(write.address),
                    self.dat_w.eq(write.value),
                    wait.eq(write.cycles),
                    self.cyc.eq(1),
                ]
                m.next = "ACKNOWLEDGE"
            with m.State("ACKNOWLEDGE"), m.If(self.ack):
                m.d.sync += [self.cyc.eq(0), index.eq(index + 1)]
                m.next = "WAIT"
            with m.State("WAIT"):
                m.d.sync += wait.eq(wait - 1)
                with m.If(wait == 0):
                    m.next = "READ"
                    with m.If(index == len(init)):
                        m.next = "DONE"
            with m.State("DONE"):
                m.d.comb += self.done.eq(1)
        return m
