"""Serial NOR flash on four data lines: the memory of boards that have no RAM."""

from __future__ import annotations

from enum import IntEnum
from typing import Any

from amaranth.hdl import Cat, Const, Module, Mux, Signal, Value
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from tritape.base.errors import TritapeError
from tritape.hw.memory.signature import MemorySignature, ends_behind
from tritape.hw.memory.times import times
from tritape.hw.memory.word_bytes import WordBytes
from tritape.hw.stream.forward import forward

SECTOR, PAGE, CAPACITY = 4096, 256, 1 << 24  # bytes erased at a time, programmed at a time, in reach of 24 address bits
DESELECT = 4  # cycles between commands, in which captured bits also arrive
QUIET_BITS = 16  # a page is closed after 2^16 cycles without a byte


class Command(IntEnum):
    """Flash commands that all common parts share (JESD216)."""

    PROGRAM = 0x02
    STATUS = 0x05
    WRITE_ENABLE = 0x06
    ERASE = 0x20
    READ = 0xEB


class _Step(IntEnum):
    """What was shifted out last."""

    DONE = 0  # nothing follows
    ENABLE_ERASE = 1
    ENABLE_PROGRAM = 2
    PROGRAM = 3
    WORK = 4  # an erasure or a page: the flash is busy
    STATUS = 5
    BYTE = 6
    READ = 7


class QSPIMemory(wiring.Component):
    """The tape in the configuration flash of a small board: words of G bytes from byte `base` on, read four bits a clock, and a
    path to erase and program them.

    Ports
        requests, words, read_failed, write, write_failed: `MemorySignature`. Both fail outside the flash; what the flash
        itself does wrong is not seen here.
        restart: In u1: stop reading and forget the request; a word being written is written.
        clock: Out u1: one clock pulse in this cycle, rising in its middle (a double data rate output: low, then `clock`).
        select: Out u1: the chip is selected (its pin is active low).
        io_o, io_oe: Out u4 and io_i: In u4: the data lines; 0 is DI, 1 is DO, 2 and 3 are high while unused.

    Outputs to the flash are registers. `pad_cycles` counts further registers at the pins, out and back together: what the flash
    drives in cycle t without them is in `io_i` in cycle t + pad_cycles.
    Reading: command EBh (the part's quad enable bit must be set), address and mode on four lines: 20 clocks, then a byte in two.
    The clock stops while a word waits for `words.ready`.
    Writing: byte by byte, addresses ascending. The first byte of a sector of 4096 erases the sector, so what lies behind the
    tape in its last sector is lost. A page is programmed when it is full, when the next byte is elsewhere or a request comes,
    or after 2^16 cycles. A write ends a read that is under way. `write.ready` stays low while the flash works, up to 0.4 s.
    Rate: G bytes in 2 G cycles. Latency: `LATENCY` + pad_cycles + 2 G cycles from a request to its first word.
    Cost: about 16 G + 200 flip-flops, 590 LUT4 of an iCE40 at G = 8.
    Tested: G = 4, 8, 13 and 0 to 3 pad cycles against `tritape.sim.memory.flash`.
    `size`: bytes of the flash, a power of two; addresses outside would wrap and erase its first sector.
    Source: data sheet of Winbond's W25Q128JV. Errors: `TritapeError` for groups, base, pad_cycles and size out of range.
    """

    LATENCY = 25

    def __init__(self, groups: int, base: int = 0, pad_cycles: int = 0, size: int = CAPACITY) -> None:
        if groups < 4:
            raise TritapeError(f"groups must be at least 4, not {groups!r}")
        if not SECTOR <= size <= CAPACITY or size & (size - 1):
            raise TritapeError(
                f"size must be a power of two in {SECTOR}..{CAPACITY}, not {size!r}; 24 bits address a byte"
            )
        if base % SECTOR or not 0 <= base < size:
            raise TritapeError(f"base must be a multiple of {SECTOR} below {size}, not {base!r}")
        if not 0 <= pad_cycles < DESELECT:
            raise TritapeError(f"pad_cycles must be in 0..{DESELECT - 1}, not {pad_cycles!r}")
        self.groups, self.base, self.pad_cycles = groups, base, pad_cycles
        self.depth = (size - base) // groups
        """Words that it holds."""
        super().__init__(
            {
                **MemorySignature(groups).members,
                "restart": In(1),
                "clock": Out(1),
                "select": Out(1),
                "io_o": Out(4, init=0b1100),
                "io_oe": Out(4, init=0b1101),
                "io_i": In(4),
            }
        )
        self._state()

    def _state(self) -> None:
        """Registers that the steps below share."""
        self._shift, self._clocks = Signal(32, name="shift"), Signal(6, name="clocks")  # bits to send, clocks left
        self._quad, self._drive = Signal(name="quad"), Signal(name="drive")  # four lines, not one; the lines are ours
        self._step = Signal(_Step, name="step")
        self._working = Signal(name="working")  # the last bit of a status
        self._position = Signal(24, name="position")  # of the open page's next byte, or of the first byte to read
        self._opened, self._erased = Signal(name="opened"), Signal(name="erased")  # a page; its sector just before
        self._quiet = Signal(QUIET_BITS, name="quiet")
        self._reading, self._left, self._final = Signal(name="reading"), Signal(32, name="left"), Signal(name="final")
        self._nibble = Signal(range(2 * self.groups), name="nibble")
        self._outside = Signal(name="outside")  # the request that was just taken ends behind the flash
        self._take, self._take_last = Signal(name="take"), Signal(name="take_last")

    def elaborate(self, platform: object) -> Module:
        m = Module()
        m.submodules.bytes = source = WordBytes(self.groups, self.depth)
        forward(m, self, source, ("write", "write_failed", "restart"))
        address = (source.bytes.payload.address + self.base)[:24]
        m.d.sync += [self.clock.eq(0), self._outside.eq(0)]
        m.d.comb += self.read_failed.eq(self._outside)
        with m.FSM():
            with m.State("IDLE"):
                self._choose(m, source.bytes, address)
            with m.State("SHIFT"):
                with m.If(self._clocks != 0):
                    self._clock_out(m)
                with m.Else():
                    self._after_shift(m, address)
            with m.State("READ"):
                self._read(m)
            with m.State("CLOSE"):
                m.d.sync += [self.select.eq(0), self._opened.eq(0), self._clocks.eq(DESELECT)]
                m.d.sync += self._step.eq(_Step.WORK)
                m.next = "GAP"
            with m.State("GAP"):
                m.d.sync += self._clocks.eq(self._clocks - 1)
                with m.If(self._clocks == 0):
                    self._after_gap(m, address)
        self._capture(m)
        return m

    def _send(self, m: Module, command: Command, following: _Step, address: Value, count: int = 32) -> None:
        """Select the flash and shift out `count` bits of a command and an address."""
        m.d.sync += [
            self._shift.eq(Cat(address, Const(command, 8))),
            self._clocks.eq(count),
            self._quad.eq(0),
            self._drive.eq(1),
            self._step.eq(following),
            self.select.eq(1),
        ]
        m.next = "SHIFT"

    def _choose(self, m: Module, source: Any, address: Value) -> None:
        """What to do next: go on with the open page, close it, erase a sector, open a page, or read."""
        request, opened = self.requests.payload, self._opened
        m.d.sync += self._quiet.eq(self._quiet + 1)
        with m.If(source.valid & opened & (address == self._position)):
            m.d.comb += source.ready.eq(1)
            m.d.sync += [self._shift.eq(source.payload.data << 24), self._clocks.eq(8), self._step.eq(_Step.BYTE)]
            m.d.sync += [self._position.eq(self._position + 1), self._quiet.eq(0)]
            m.next = "SHIFT"
        with m.Elif(opened), m.If(source.valid | self.requests.valid | self._quiet.all()):
            m.next = "CLOSE"
        with m.Elif(source.valid):
            with m.If((address[:12] == 0) & ~self._erased):
                self._send(m, Command.WRITE_ENABLE, _Step.ENABLE_ERASE, address, 8)
            with m.Else():
                self._send(m, Command.WRITE_ENABLE, _Step.ENABLE_PROGRAM, address, 8)
        with m.Elif(self.requests.valid & ~self.write.valid & ~self.restart):
            m.d.comb += self.requests.ready.eq(1)
            m.d.sync += [
                self._position.eq(times(request.address, self.groups) + self.base),
                self._left.eq(request.length),
                self._final.eq(request.length == 1),
                self._nibble.eq(0),
                self._reading.eq(1),
                self._outside.eq(ends_behind(request, self.depth)),
            ]
            with m.If(request.length != 0):
                self._send(m, Command.READ, _Step.READ, address, 8)

    def _clock_out(self, m: Module) -> None:
        """Give the next bit or nibble a clock."""
        quad, shift = self._quad, self._shift
        m.d.comb += self._take.eq(self._step == _Step.STATUS)
        m.d.sync += [
            self.clock.eq(1),
            self.io_o.eq(Mux(quad, shift[28:], Cat(shift[31], Const(0b110, 3)))),
            self.io_oe.eq(Mux(self._drive, Mux(quad, 0b1111, 0b1101), 0)),
            shift.eq(Mux(quad, shift << 4, shift << 1)),
            self._clocks.eq(self._clocks - 1),
        ]

    def _after_shift(self, m: Module, address: Value) -> None:
        """What follows when all bits are out."""
        step, position = self._step, self._position
        with m.If(step == _Step.PROGRAM):
            m.d.sync += [self._opened.eq(1), self._erased.eq(0), position.eq(address), self._quiet.eq(0)]
            m.next = "IDLE"
        with m.Elif(step == _Step.BYTE):
            m.next = "IDLE"
            with m.If(position[:8] == 0):  # the page is full
                m.next = "CLOSE"
        with m.Elif((step == _Step.READ) & ~self._quad):  # the command is out
            m.d.sync += [self._shift.eq(Cat(Const(0xFF, 8), position)), self._clocks.eq(8), self._quad.eq(1)]
        with m.Elif((step == _Step.READ) & self._drive):  # address and mode are out
            m.d.sync += [self._drive.eq(0), self._clocks.eq(4)]
        with m.Elif(step == _Step.READ):
            m.next = "READ"
        with m.Else():
            m.d.sync += [self.select.eq(0), self._clocks.eq(DESELECT)]
            m.next = "GAP"

    def _read(self, m: Module) -> None:
        """A nibble a clock, unless a word waits that the next nibble would complete."""
        last = self._nibble == 2 * self.groups - 1
        with m.If(~self._reading):
            m.d.sync += self._step.eq(_Step.DONE)
            m.next = "SHIFT"
        with m.Elif(~last | ~self.words.valid | self.words.ready):
            m.d.comb += [self._take.eq(1), self._take_last.eq(last)]
            m.d.sync += [self.clock.eq(1), self._nibble.eq(self._nibble + 1)]
            with m.If(last):
                m.d.sync += [self._nibble.eq(0), self._left.eq(self._left - 1)]
                m.d.sync += [self._final.eq(self._left == 2), self._reading.eq(~self._final)]

    def _after_gap(self, m: Module, address: Value) -> None:
        """What follows when the flash was deselected long enough."""
        with m.Switch(self._step):
            with m.Case(_Step.ENABLE_ERASE):
                m.d.sync += self._erased.eq(1)
                self._send(m, Command.ERASE, _Step.WORK, address)
            with m.Case(_Step.ENABLE_PROGRAM):
                self._send(m, Command.PROGRAM, _Step.PROGRAM, address)
            with m.Case(_Step.WORK):
                self._send(m, Command.STATUS, _Step.STATUS, address, 16)
            with m.Default():
                m.next = "IDLE"
                with m.If((self._step == _Step.STATUS) & self._working):
                    self._send(m, Command.STATUS, _Step.STATUS, address, 16)

    def _capture(self, m: Module) -> None:
        """Collect nibbles (on one line: bits). Each is at the pins while its clock rises, and here pad_cycles later."""
        stages = self.pad_cycles + 1
        taken, taken_last = Signal(stages), Signal(stages)
        half, word = Signal(), Signal(8 * self.groups + 4)  # the bytes before and, at the top, half a byte
        m.d.sync += [taken.eq(Cat(self._take, taken)), taken_last.eq(Cat(self._take_last, taken_last))]
        with m.If(self.words.ready):
            m.d.sync += self.words.valid.eq(0)
        with m.If(taken[-1]):
            whole = Cat(word[8:-4], self.io_i, word[-4:])
            m.d.sync += [self._working.eq(self.io_i[1]), half.eq(~half), word[-4:].eq(self.io_i)]
            with m.If(half):
                m.d.sync += word[:-4].eq(whole)
            with m.If(taken_last[-1]):
                m.d.sync += [self.words.payload.eq(whole), self.words.valid.eq(1)]
        with m.If(self._step != _Step.READ):
            m.d.sync += half.eq(0)
        with m.If(self.restart | self.write.valid | self._outside):
            m.d.sync += self._reading.eq(0)
        with m.If(self.restart):
            m.d.sync += [self.words.valid.eq(0), taken.eq(0), taken_last.eq(0)]
