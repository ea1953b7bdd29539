"""The host's bytes over AXI4-Lite registers, where processor and fabric share a bus: Zynq, Kria, Alveo."""

from __future__ import annotations

import enum
from typing import ClassVar

from amaranth.hdl import Array, C, Cat, Module, Mux, Signal
from amaranth.lib import data, fifo, stream, wiring
from amaranth.lib.wiring import In, Out

from tritape.base.errors import TritapeError
from tritape.hw.memory.axi_bus import ADDRESS_BITS, BOUNDARY

WINDOW_BITS = 12
"""Address bits of the registers: a page of 4 KiB."""
MAGIC = 0x5452_4C31
"""What register ID reads: a processor that looks at the wrong page finds another number."""
MAX_PORTS = 32
PAGE_BITS = (BOUNDARY - 1).bit_length()
_LOW_PAGES = 32 - PAGE_BITS  # bits of a base in its first register


class Register(enum.IntEnum):
    """Byte addresses of the 32-bit registers. `BASE + 8 p` and the word behind it are the base of port p, low bits first."""

    ID = 0x00
    STATUS = 0x04
    BYTE = 0x08
    WORD = 0x0C
    STATE = 0x10
    SHAPE = 0x14
    SIZE = 0x18
    BASE = 0x100


StatusLayout = data.StructLayout({"waiting": 16, "room": 16})
"""STATUS: bytes that the host can read now, and bytes that it can write now."""
StateLayout = data.StructLayout({"running": 1, "fault": 1, "unused": 14, "errors": 16})
"""STATE: a token runs; the tape was refused or is broken; lines of memory that came or went with an error response."""
ShapeLayout = data.StructLayout({"ports": 8, "line_bytes": 16, "unused": 8})
"""SHAPE: memory ports, and the bytes W of a line of each."""


class AXILiteSignature(wiring.Signature):
    """AXI4-Lite with 32 data bits and `WINDOW_BITS` address bits, from the manager."""

    def __init__(self) -> None:
        super().__init__(
            {
                "awaddr": Out(WINDOW_BITS), "awprot": Out(3), "awvalid": Out(1), "awready": In(1),
                "wdata": Out(32), "wstrb": Out(4), "wvalid": Out(1), "wready": In(1),
                "bresp": In(2), "bvalid": In(1), "bready": Out(1),
                "araddr": Out(WINDOW_BITS), "arprot": Out(3), "arvalid": Out(1), "arready": In(1),
                "rdata": In(32), "rresp": In(2), "rvalid": In(1), "rready": Out(1),
            }
        )  # fmt: skip


class AXILiteLink(wiring.Component):
    """Byte streams, memory bases and state of an accelerator as registers of an AXI4-Lite subordinate.

    Parameters
        ports, line_bytes, port_bytes: of the memory, for SHAPE and SIZE: AXI ports, bytes of a line of each, and bytes
        that each port must have at its base, a multiple of 4096

    Registers (`Register`): a write of BYTE sends its low byte, of WORD its four bytes, lowest first; a read takes one or four
    bytes the same way. STATUS says beforehand how many there are and fit: a byte without room is dropped, and one that is
    not there reads as 0. ID, STATUS, STATE, SHAPE and SIZE (pages of 4096 bytes of each port) are read only. BASE of a port
    keeps bits 12..39. Other addresses read 0 and ignore writes; strobes are ignored; every response is OKAY, because an
    error response is a bus error for the processor.

    Ports
        axi: `AXILiteSignature`, from the manager.
        received: Out, stream of bytes from the host; sent: In, stream of bytes to the host.
        base: `ports` times Out u40, the registers BASE. errors: In u16; status: In u2 (a token runs; a fault).

    Streams: all valid and ready outputs are registers or FIFO flags. One access at a time.
    Latency and rate: `WRITE_CYCLES` and `READ_CYCLES` from the cycle of a valid address to that of its response, both
    included, for a manager that waits for nothing. Cost: two block RAMs (FIFOs of `DEPTH` bytes), 415 LUT4 and 192
    flip-flops of an ECP5 with one port, 461 and 276 with four (yosys, flat).
    Tested: every byte both ways against cocotbext-axi under random pauses, full and empty FIFOs, 1, 3 and 32 ports
    (tests/test_hw_axi_lite.py). Errors: `TritapeError` for ports out of range and a port_bytes that is no whole page.
    """

    DEPTH = 512
    WRITE_CYCLES: ClassVar = {"BYTE": 4, "WORD": 7, "BASE": 4}
    READ_CYCLES: ClassVar = {"STATUS": 4, "BYTE": 5, "WORD": 8}

    def __init__(self, ports: int, line_bytes: int, port_bytes: int) -> None:
        if not 1 <= ports <= MAX_PORTS:
            raise TritapeError(f"ports must be in 1..{MAX_PORTS}, not {ports!r}; give the memory fewer")
        if port_bytes % BOUNDARY or not 0 < port_bytes < 1 << ADDRESS_BITS:
            raise TritapeError(f"port_bytes must be a multiple of {BOUNDARY}, not {port_bytes!r}; round it up")
        self._shape = ports | line_bytes << 8
        self._pages = port_bytes // BOUNDARY
        super().__init__(
            {
                "axi": In(AXILiteSignature()),
                "received": Out(stream.Signature(8)),
                "sent": In(stream.Signature(8)),
                "base": Out(ADDRESS_BITS).array(ports),
                "errors": In(16),
                "status": In(2),
            }
        )

    def elaborate(self, _platform: object) -> Module:
        m = Module()
        axi = self.axi
        m.submodules.inward = inward = fifo.SyncFIFOBuffered(width=8, depth=self.DEPTH)
        m.submodules.outward = outward = fifo.SyncFIFOBuffered(width=8, depth=self.DEPTH)
        wiring.connect(m, inward.r_stream, wiring.flipped(self.received))
        wiring.connect(m, wiring.flipped(self.sent), outward.w_stream)

        address, value = Signal(WINDOW_BITS), Signal(32)
        left, lane = Signal(3), Signal(2)  # bytes of the access still to move; where the next one that comes belongs
        port, high = address[3:8], address[2]
        is_base = (address[8:] == Register.BASE >> 8) & (port < len(self.base))
        pages = Array(base[PAGE_BITS:] for base in self.base)[port]
        room, state = Signal(range(self.DEPTH)), Signal(StateLayout)
        last = self.DEPTH - 1  # a buffered FIFO takes no more while its output register is empty
        m.d.comb += [
            inward.w_data.eq(value[:8]),
            axi.rdata.eq(value),
            room.eq(Mux(inward.level >= last, 0, last - inward.level)),
            Cat(state.running, state.fault).eq(self.status),
            state.errors.eq(self.errors),
        ]
        size = Signal(3)
        with m.If(address == Register.BYTE):
            m.d.comb += size.eq(1)
        with m.Elif(address == Register.WORD):
            m.d.comb += size.eq(4)

        with m.FSM():
            with m.State("IDLE"):
                with m.If(axi.awvalid & axi.wvalid):
                    m.d.sync += [address.eq(axi.awaddr), value.eq(axi.wdata)]
                    m.next = "WRITE"
                with m.Elif(axi.arvalid):
                    m.d.sync += address.eq(axi.araddr)
                    m.next = "READ"
            with m.State("WRITE"):
                m.d.comb += [axi.awready.eq(1), axi.wready.eq(1)]
                m.d.sync += left.eq(size)
                with m.If(is_base & high):
                    m.d.sync += pages[_LOW_PAGES:].eq(value)
                with m.Elif(is_base):
                    m.d.sync += pages[:_LOW_PAGES].eq(value[PAGE_BITS:])
                m.next = "SEND"
            with m.State("SEND"):
                m.d.comb += inward.w_en.eq(left != 0)
                m.d.sync += [value.eq(value >> 8), left.eq(left - 1)]
                with m.If(left <= 1):
                    m.d.sync += axi.bvalid.eq(1)
                    m.next = "WRITTEN"
            with m.State("WRITTEN"), m.If(axi.bready):
                m.d.sync += axi.bvalid.eq(0)
                m.next = "IDLE"

            with m.State("READ"):
                m.d.comb += axi.arready.eq(1)
                m.d.sync += [value.eq(0), left.eq(size), lane.eq(0)]
                with m.Switch(address):
                    for register, content in (
                        (Register.ID, MAGIC),
                        (Register.STATUS, Cat(outward.level, C(0, 16 - len(outward.level)), room)),
                        (Register.STATE, state),
                        (Register.SHAPE, self._shape),
                        (Register.SIZE, self._pages),
                    ):
                        with m.Case(register):
                            m.d.sync += value.eq(content)
                with m.If(is_base):
                    m.d.sync += value.eq(Mux(high, pages[_LOW_PAGES:], pages[:_LOW_PAGES] << PAGE_BITS))
                m.next = "TAKE"
            with m.State("TAKE"):
                with m.If((left == 0) | (outward.level == 0)):
                    m.d.sync += axi.rvalid.eq(1)
                    m.next = "TAKEN"
                with m.Else():
                    m.d.comb += outward.r_en.eq(1)
                with m.If((left != 0) & outward.r_rdy):
                    m.d.sync += [value.word_select(lane, 8).eq(outward.r_data), lane.eq(lane + 1), left.eq(left - 1)]
            with m.State("TAKEN"), m.If(axi.rready):
                m.d.sync += axi.rvalid.eq(0)
                m.next = "IDLE"
        return m
