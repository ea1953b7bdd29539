"""A serial NOR flash, as far as `QSPIMemory` uses one; it is hardware, so it runs inside any simulator."""

from __future__ import annotations

from amaranth.hdl import Cat, Module, Mux, Signal, ValueLike
from amaranth.lib import wiring
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import In, Out

from tritape.hw.memory.qspi import PAGE, SECTOR, Command, QSPIMemory
from tritape.hw.memory.signature import MemorySignature
from tritape.hw.stream.forward import forward


class Flash(wiring.Component):
    """`size` bytes (a power of two, at least a sector) behind the pins of a W25Q-like part.

    A cycle with `clock` high is one clock pulse: the lines are sampled, then the flash's next bits appear. Programming only
    clears bits; erasing takes as many cycles as a sector has bytes, programming `PAGE` cycles.

    Ports: clock, select, io_o, io_oe as they leave `QSPIMemory`, io_i what it gets; violations: Out u16, counts what a part
    would not forgive: a command while busy or unknown, program or erase without enable or of a wrong length, lines
    that both sides drive or that the manager leaves open while it sends.
    """

    def __init__(self, size: int, init: bytes = b"") -> None:
        self.size = size
        self._init = [*init, *[0xFF] * (size - len(init))]
        super().__init__(
            {
                "clock": In(1),
                "select": In(1),
                "io_o": In(4),
                "io_oe": In(4),
                "io_i": Out(4),
                "violations": Out(16),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        m.submodules.memory = memory = Memory(shape=8, depth=self.size, init=self._init)
        write = memory.write_port()
        read, old = memory.read_port(domain="comb"), memory.read_port(domain="comb")
        clocks = Signal(32)  # of this command
        command, address, byte = Signal(8), Signal(24), Signal(8)
        enabled, busy = Signal(), Signal(range(SECTOR + 1))
        erasing, was_selected = Signal(), Signal()
        driven = Signal(4)  # lines that the flash drives
        out = Signal(4)
        violation = Signal()
        m.d.comb += [self.io_i.eq(out), old.addr.eq(write.addr)]
        m.d.sync += [was_selected.eq(self.select), self.violations.eq(self.violations + violation)]

        def wrong(condition: ValueLike) -> None:
            with m.If(condition):
                m.d.comb += violation.eq(1)

        now = Mux(clocks == 7, Cat(self.io_o[0], command[:7]), command)
        bit = self.io_o[0]
        header = clocks < 8
        with m.If(busy != 0):
            m.d.sync += busy.eq(busy - 1)
            with m.If(erasing):
                m.d.comb += [write.en.eq(1), write.data.eq(0xFF), write.addr.eq(Cat((busy - 1)[:12], address[12:]))]
            with m.If(busy == 1):
                m.d.sync += [enabled.eq(0), erasing.eq(0)]
        with m.If(self.select & self.clock):
            wrong((self.io_oe & driven) != 0)
            m.d.sync += clocks.eq(clocks + 1)
            with m.If(header):
                wrong(self.io_oe != 0b1101)
                m.d.sync += command.eq(Cat(bit, command))
                with m.If(clocks == 7):
                    wrong((busy != 0) & (now != Command.STATUS))
                    known = [now == item for item in Command]
                    wrong(~Cat(known).any())
                    with m.If(now == Command.STATUS):
                        m.d.sync += driven.eq(0b0010)
            with m.Else(), m.Switch(command):
                with m.Case(Command.READ):
                    with m.If(clocks < 14):
                        wrong(self.io_oe != 0b1111)
                        m.d.sync += address.eq(Cat(self.io_o, address))
                    with m.Elif(clocks < 16):
                        stays = (clocks == 14) & (
                            self.io_o[:2] == 0b10
                        )  # in read mode, so that the next command has none
                        wrong((self.io_oe != 0b1111) | stays)
                    with m.Elif(clocks >= 19):
                        m.d.comb += read.addr.eq(address)
                        m.d.sync += [driven.eq(0b1111), out.eq(Mux(clocks[0], read.data[4:], read.data[:4]))]
                        with m.If(~clocks[0]):
                            m.d.sync += address.eq(address + 1)
                with m.Case(Command.PROGRAM, Command.ERASE):
                    wrong(self.io_oe != 0b1101)
                    with m.If(clocks < 32):
                        m.d.sync += address.eq(Cat(bit, address))
                    with m.Else():
                        wrong(command == Command.ERASE)
                        m.d.sync += byte.eq(Cat(bit, byte))
                        with m.If(clocks[:3] == 7):
                            m.d.comb += [
                                write.addr.eq(address),
                                write.data.eq(old.data & Cat(bit, byte[:7])),
                                write.en.eq(enabled),
                            ]
                            m.d.sync += address.eq(Cat((address + 1)[:8], address[8:]))
            # status bits leave after clocks 8 to 15: only busy (bit 0) and enabled (bit 1) can be set
            with m.If(now == Command.STATUS):
                m.d.sync += out.eq(Cat(0, Mux(clocks == 14, busy != 0, (clocks == 13) & enabled)))
        with m.If(was_selected & ~self.select):
            m.d.sync += [clocks.eq(0), driven.eq(0)]
            wrong(clocks < 8)
            with m.Switch(command):
                with m.Case(Command.WRITE_ENABLE):
                    wrong(clocks != 8)
                    m.d.sync += enabled.eq(1)
                with m.Case(Command.ERASE):
                    wrong((clocks != 32) | ~enabled)
                    m.d.sync += [busy.eq(SECTOR), erasing.eq(1)]
                with m.Case(Command.PROGRAM):
                    wrong((clocks < 40) | (clocks[:3] != 0) | ~enabled)
                    m.d.sync += busy.eq(PAGE)
        return m


class QSPIMemoryOnFlash(wiring.Component):
    """A `QSPIMemory` at a `Flash`, with its pad registers; ports as `QSPIMemory` has, and the flash's `violations`."""

    def __init__(self, groups: int, size: int, init: bytes = b"", base: int = 0, pad_cycles: int = 0) -> None:
        self._memory, self._flash = QSPIMemory(groups, base, pad_cycles, size), Flash(size, init)
        super().__init__({**MemorySignature(groups).members, "restart": In(1), "violations": Out(16)})

    def elaborate(self, platform: object) -> Module:
        m = Module()
        m.submodules.memory, m.submodules.flash = memory, flash = self._memory, self._flash
        forward(m, self, memory, [name for name in self.signature.members if name != "violations"])
        value = Cat(flash.io_i)
        for _ in range(memory.pad_cycles):
            delayed = Signal(4)
            m.d.sync += delayed.eq(value)
            value = delayed
        m.d.comb += [memory.io_i.eq(value), self.violations.eq(flash.violations)]
        m.d.comb += [getattr(flash, name).eq(getattr(memory, name)) for name in ("clock", "select", "io_o", "io_oe")]
        return m
