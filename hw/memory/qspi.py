"""Serial NOR flash on four data lines: the memory of boards that have no RAM."""

from __future__ import annotations

from enum import IntEnum

from amaranth.hdl import Cat, Const, Module, Mux, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from tritape.base.errors import TritapeError
from tritape.hw.memory.signature import MemorySignature
from tritape.hw.memory.times import times
from tritape.hw.memory.word_bytes import WordBytes

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
    """Words of G bytes from byte `base` of a flash, four bits a clock, and a path to erase and program it.

    Ports
        requests, words, write: `MemorySignature`.
        restart: In u1: stop reading and forget the request.
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
    Cost: about 16 G + 200 flip-flops, 550 LUT4 of an iCE40 at G = 8.
    Tested: G = 4, 8, 13 and 0 to 3 pad cycles against `tritape.sim.memory.flash`.
    Source: data sheet of Winbond's W25Q128JV. Errors: `TritapeError` for groups, base and pad_cycles out of range.
    """

    LATENCY = 25

    def __init__(self, groups: int, base: int = 0, pad_cycles: int = 0) -> None:
        if groups < 4:
            raise TritapeError(f"groups must be at least 4, not {groups!r}")
        if base % SECTOR or not 0 <= base < CAPACITY:
            raise TritapeError(f"base must be a multiple of {SECTOR} below {CAPACITY}, not {base!r}")
        if not 0 <= pad_cycles < DESELECT:
            raise TritapeError(f"pad_cycles must be in 0..{DESELECT - 1}, not {pad_cycles!r}")
        self.groups, self.base, self.pad_cycles = groups, base, pad_cycles
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

    def elaborate(self, platform: object) -> Module:
        m = Module()
        m.submodules.bytes = source = WordBytes(self.groups)
        wiring.connect(m, wiring.flipped(self.write), source.write)
        byte, request = source.bytes.payload, self.requests.payload
        address = (byte.address + self.base)[:24]

        shift, clocks = Signal(32), Signal(6)  # bits to send, clocks left
        quad, drive = Signal(), Signal()  # four lines, not one; the lines are ours
        step, working = Signal(_Step), Signal()  # `working`: the last bit of a status
        position, opened, erased = (
            Signal(24),
            Signal(),
            Signal(),
        )  # the open page's next byte; its sector was just erased
        quiet = Signal(QUIET_BITS)
        reading, left, nibble, final = Signal(), Signal(32), Signal(range(2 * self.groups)), Signal()
        last = nibble == 2 * self.groups - 1
        take, take_last = Signal(), Signal()  # this cycle's clock brings a nibble; the last one of a word

        def send(command: Command, following: _Step, count: int = 32) -> None:
            """Select the flash and shift out a command and the byte's address."""
            m.d.sync += [
                shift.eq(Cat(address, Const(command, 8))),
                clocks.eq(count),
                quad.eq(0),
                drive.eq(1),
                step.eq(following),
            ]
            m.d.sync += self.select.eq(1)
            m.next = "SHIFT"

        m.d.sync += self.clock.eq(0)
        with m.FSM():
            with m.State("IDLE"):
                m.d.sync += quiet.eq(quiet + 1)
                with m.If(source.bytes.valid & opened & (address == position)):
                    m.d.comb += source.bytes.ready.eq(1)
                    m.d.sync += [shift.eq(byte.data << 24), clocks.eq(8), step.eq(_Step.BYTE)]
                    m.d.sync += [position.eq(position + 1), quiet.eq(0)]
                    m.next = "SHIFT"
                with m.Elif(opened), m.If(source.bytes.valid | self.requests.valid | quiet.all()):
                    m.next = "CLOSE"
                with m.Elif(source.bytes.valid):
                    with m.If((address[:12] == 0) & ~erased):
                        send(Command.WRITE_ENABLE, _Step.ENABLE_ERASE, 8)
                    with m.Else():
                        send(Command.WRITE_ENABLE, _Step.ENABLE_PROGRAM, 8)
                with m.Elif(self.requests.valid & ~self.write.valid & ~self.restart):
                    m.d.comb += self.requests.ready.eq(1)
                    m.d.sync += [
                        position.eq(times(request.address, self.groups) + self.base),
                        left.eq(request.length),
                        final.eq(request.length == 1),
                        nibble.eq(0),
                        reading.eq(1),
                    ]
                    with m.If(request.length != 0):
                        send(Command.READ, _Step.READ, 8)
            with m.State("SHIFT"):
                with m.If(clocks != 0):
                    m.d.comb += take.eq(step == _Step.STATUS)
                    m.d.sync += [
                        self.clock.eq(1),
                        self.io_o.eq(Mux(quad, shift[28:], Cat(shift[31], Const(0b110, 3)))),
                        self.io_oe.eq(Mux(drive, Mux(quad, 0b1111, 0b1101), 0)),
                        shift.eq(Mux(quad, shift << 4, shift << 1)),
                        clocks.eq(clocks - 1),
                    ]
                with m.Elif(step == _Step.PROGRAM):
                    m.d.sync += [opened.eq(1), erased.eq(0), position.eq(address), quiet.eq(0)]
                    m.next = "IDLE"
                with m.Elif(step == _Step.BYTE):
                    m.next = "IDLE"
                    with m.If(position[:8] == 0):  # the page is full
                        m.next = "CLOSE"
                with m.Elif((step == _Step.READ) & ~quad):  # the command is out
                    m.d.sync += [shift.eq(Cat(Const(0xFF, 8), position)), clocks.eq(8), quad.eq(1)]
                with m.Elif((step == _Step.READ) & drive):  # address and mode are out
                    m.d.sync += [drive.eq(0), clocks.eq(4)]
                with m.Elif(step == _Step.READ):
                    m.next = "READ"
                with m.Else():
                    m.d.sync += [self.select.eq(0), clocks.eq(DESELECT)]
                    m.next = "GAP"
            with m.State("READ"):
                with m.If(~reading):
                    m.d.sync += step.eq(_Step.DONE)
                    m.next = "SHIFT"
                with m.Elif(~last | ~self.words.valid | self.words.ready):
                    m.d.comb += [take.eq(1), take_last.eq(last)]
                    m.d.sync += [self.clock.eq(1), nibble.eq(nibble + 1)]
                    with m.If(last):
                        m.d.sync += [nibble.eq(0), left.eq(left - 1), final.eq(left == 2), reading.eq(~final)]
            with m.State("CLOSE"):
                m.d.sync += [self.select.eq(0), opened.eq(0), clocks.eq(DESELECT), step.eq(_Step.WORK)]
                m.next = "GAP"
            with m.State("GAP"):
                m.d.sync += clocks.eq(clocks - 1)
                with m.If(clocks == 0), m.Switch(step):
                    with m.Case(_Step.ENABLE_ERASE):
                        m.d.sync += erased.eq(1)
                        send(Command.ERASE, _Step.WORK)
                    with m.Case(_Step.ENABLE_PROGRAM):
                        send(Command.PROGRAM, _Step.PROGRAM)
                    with m.Case(_Step.WORK):
                        send(Command.STATUS, _Step.STATUS, 16)
                    with m.Default():
                        m.next = "IDLE"
                        with m.If((step == _Step.STATUS) & working):
                            send(Command.STATUS, _Step.STATUS, 16)

        # A nibble (on one line: a bit) is at the pins while its clock rises, and here pad_cycles later.
        stages = self.pad_cycles + 1
        taken, taken_last = Signal(stages), Signal(stages)
        half, word = Signal(), Signal(8 * self.groups + 4)  # the bytes before and, at the top, half a byte
        m.d.sync += [taken.eq(Cat(take, taken)), taken_last.eq(Cat(take_last, taken_last))]
        with m.If(self.words.ready):
            m.d.sync += self.words.valid.eq(0)
        with m.If(taken[-1]):
            whole = Cat(word[8:-4], self.io_i, word[-4:])
            m.d.sync += [working.eq(self.io_i[1]), half.eq(~half), word[-4:].eq(self.io_i)]
            with m.If(half):
                m.d.sync += word[:-4].eq(whole)
            with m.If(taken_last[-1]):
                m.d.sync += [self.words.payload.eq(whole), self.words.valid.eq(1)]
        with m.If(step != _Step.READ):
            m.d.sync += half.eq(0)
        with m.If(self.restart | self.write.valid):
            m.d.sync += reading.eq(0)
        with m.If(self.restart):
            m.d.sync += [self.words.valid.eq(0), taken.eq(0), taken_last.eq(0)]
        return m
