"""Serial flash as the FPGA's configuration leaves it: woken, and told that its four lines are for data."""

from __future__ import annotations

from amaranth.hdl import Array, C, Cat, Module, Mux, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from tritape.hw.memory.qspi import CAPACITY, QSPIMemory
from tritape.hw.memory.signature import MemorySignature
from tritape.hw.stream.forward import forward

WAKE, VOLATILE, STATUS_2, QUAD = 0xAB, 0x50, 0x31, 0x02
"""Commands: release from power down; the next write of a status register is not for good. Status register 2, and its bit QE."""
PAUSE_BITS = 7
"""A step has 2^7 cycles, 119 of them a pause: 3 us, which a part takes to wake up, at 39 MHz and less."""
_STEPS = ((WAKE, 8), (VOLATILE, 8), (STATUS_2 << 8 | QUAD, 16))


class StartedFlash(wiring.Component):
    """`QSPIMemory`, once the flash is awake and in quad mode. For boards that have the tape in their configuration flash.

    After configuration an iCE40 has sent its flash to sleep (icepack's default), and parts leave the factory with bit QE at 0.
    So after reset, on one line: ABh; a pause; 50h; a pause; 31h with 02h. Nothing of it is kept at power off.

    Ports: those of `QSPIMemory`, and started: Out u1, the memory can be read. It must not be asked before.
    Parameters: those of `QSPIMemory`.
    Latency: `started` 3 x 2^7 cycles after reset. Cost: 610 iCE40 LUT4 and 278 flip-flops at G = 4, `QSPIMemory`'s included.
    Tested: against a flash that is asleep and has QE at 0 (tests/test_hw_autoboot.py, and the virtual board's own flash).
    Source: data sheet of Winbond's W25Q128JV.
    """

    def __init__(self, groups: int, base: int = 0, pad_cycles: int = 0, size: int = CAPACITY) -> None:
        self._memory = QSPIMemory(groups, base, pad_cycles, size)
        self.pad_cycles, self.depth = pad_cycles, self._memory.depth
        self._pins = {"clock": Out(1), "select": Out(1), "io_o": Out(4), "io_oe": Out(4), "io_i": In(4)}
        super().__init__({**MemorySignature(groups).members, "restart": In(1), **self._pins, "started": Out(1)})

    def elaborate(self, platform: object) -> Module:
        m = Module()
        m.submodules.memory = inner = self._memory
        forward(m, self, inner, [*MemorySignature(inner.groups).members, "restart"])
        m.d.comb += inner.io_i.eq(self.io_i)
        at, step = Signal(PAUSE_BITS), Signal(2)
        clock, select, line = Signal(), Signal(), Signal()
        bits = Array(C(value << (16 - count), 16)[::-1] for value, count in _STEPS)  # the first bit is bit 0
        counts = Array(C(count, 5) for _, count in _STEPS)
        sending = Signal()
        m.d.comb += sending.eq((at[4:] == 1) & (at[:4] < counts[step]))  # behind 16 cycles of pause
        m.d.sync += [
            clock.eq(sending & ~self.started),
            select.eq(
                ((at == 15) | sending | clock) & ~self.started
            ),  # a cycle before the first clock and behind the last
            line.eq(bits[step].bit_select(at[:4], 1)),
        ]
        with m.If(~self.started):
            m.d.sync += at.eq(at + 1)
            with m.If(at.all()):
                m.d.sync += [step.eq(step + 1), self.started.eq(step == len(_STEPS) - 1)]
        m.d.comb += [
            self.clock.eq(Mux(self.started, inner.clock, clock)),
            self.select.eq(Mux(self.started, inner.select, select)),
            self.io_o.eq(Mux(self.started, inner.io_o, Cat(line, C(0b110, 3)))),
            self.io_oe.eq(Mux(self.started, inner.io_oe, 0b1101)),
        ]
        return m
