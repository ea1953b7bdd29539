"""Frames of bytes: checks and stores what the host sends, packs and sends the reply, and sends it again when asked again."""

from __future__ import annotations

from amaranth.hdl import Cat, Module, Mux, Signal, Value
from amaranth.lib import data, enum, stream, wiring
from amaranth.lib.memory import Memory, ReadPort, WritePort
from amaranth.lib.wiring import In, Out

from tritape.base.errors import TritapeError
from tritape.hw.link.byte_crc import RESIDUE, ByteCRC
from tritape.hw.link.cobs import COBSDecoder

FRAME_BYTES = 224
"""Longest frame, CRC included, without its stuffing: a command or a reply."""
CRC_BYTES = 4
CONSTANT_BYTES = 32
HEADER_BYTES = 8
"""Bytes at the head of each command: kind, sequence number, argument u32, count u16."""
FIRST_KIND = 1
"""The kind of command that is never taken for a repetition and that reads the constant."""


class Part(enum.Enum, shape=2):  # type: ignore[call-arg]
    """What an element of the reply is."""

    BYTE = 0
    CHECKED = 1  # goes into the check sum, its bits reversed, and nowhere else; before the first BYTE only
    END = 2  # no byte


Reply = data.StructLayout({"byte": 8, "part": Part})


class FramePort(wiring.Component):
    """One command at a time in, one reply out, over byte streams that may lose and damage bytes.

        wire: COBS([kind, sequence, ..., CRC-32]) 0, in both directions

    Parameters
        constant: at most `CONSTANT_BYTES` bytes, to be read behind the header of a command of kind `FIRST_KIND`

    Ports
        rx, tx: byte streams, from and to the host
        frame: Out, stream of bytes: those of the command, in order, as many as are wanted; valid from the command's
            arrival to the reply's end. spent: Out, u1: its last byte was read (with its header, one cycle later); reading on
            gives bytes without a meaning
        reply: In, stream of `Reply`: the bytes of the answer, at most `FRAME_BYTES` - 4, then END
        checksum: Out, u32: CRC-32 of the CHECKED bytes, the bits of each reversed, while `reply` is ready
        pending: Out, u1: a byte from the host waits while a command is being obeyed

    A frame that is damaged, cut, shorter than a header or longer than `FRAME_BYTES` is dropped without a word. A command with
    the sequence number of the one before is a repetition: it is not given to `frame`, but the reply is sent again. While a
    command is obeyed and answered nothing is read from `rx`.

    The reply is stuffed as it is stored: a zero is not stored, but the length of the block that it ends goes to that
    block's first place, so sending is reading. Rates: nine cycles a byte in, nine a byte of reply, three a byte out. Between
    the block RAM and `frame`, and between `reply` and the block RAM, are registers. Cost: one block RAM of 512 bytes,
    301 iCE40 LUT4 with decoder and CRC (yosys, flat). Tested: whole exchanges, repetitions, random damage
    (tests/test_hw_frame_port.py). Source: docs/protocol.md. Errors: `TritapeError` for a constant too long.
    """

    def __init__(self, constant: bytes = b"") -> None:
        if len(constant) > CONSTANT_BYTES:
            raise TritapeError(f"constant must have at most {CONSTANT_BYTES} bytes, not {len(constant)}; shorten it")
        # Read at FRAME_BYTES + (HEADER_BYTES + i) % 32: the read pointer with its top bits set.
        room = [0] * CONSTANT_BYTES
        for i, byte in enumerate(constant):
            room[(HEADER_BYTES + i) % CONSTANT_BYTES] = byte
        self._init = [0] * FRAME_BYTES + room
        super().__init__(
            {
                "rx": In(stream.Signature(8)),
                "tx": Out(stream.Signature(8)),
                "frame": Out(stream.Signature(8)),
                "spent": Out(1),
                "reply": In(stream.Signature(Reply)),
                "checksum": Out(32),
                "pending": Out(1),
            }
        )

    def elaborate(self, _platform: object) -> Module:
        m = Module()
        m.submodules.decoder = decoder = COBSDecoder()
        m.submodules.crc = crc = ByteCRC()
        # no_rw_check: nothing is read in the cycle in which it is written
        memory = Memory(shape=8, depth=512, init=self._init, attrs={"no_rw_check": 1})
        m.submodules.memory = memory
        s = _Store(memory.write_port(), memory.read_port())
        self._build_store(m, s, crc)
        m.d.comb += decoder.encoded.payload.eq(self.rx.payload)
        with m.FSM():
            self._state_receive(m, s, decoder, crc)
            self._state_obey(m, s, crc)
            self._state_tail(m, s, crc)
            with m.State("SEND"):
                m.d.comb += [s.sending.eq(1), self.tx.valid.eq(s.fetched), crc.restart.eq(1)]
                with m.If(self.tx.valid & self.tx.ready):
                    m.d.sync += s.read_at(s.place + 1)
                    with m.If(s.found == 0):
                        m.next = "RECEIVE"
        return m

    def _build_store(self, m: Module, s: _Store, crc: ByteCRC) -> None:
        """Reading and writing the frame memory, and the stuffing of the reply."""
        constant = Signal()
        m.d.comb += [
            constant.eq(s.first_kind & (s.place >= HEADER_BYTES) & ~s.sending),
            s.read.addr.eq(Cat(s.place[:5], s.place[5:] | constant.replicate(3), s.sending)),
            s.read.en.eq(1),
            self.frame.payload.eq(s.found),
            self.tx.payload.eq(s.found),
            self.spent.eq(s.place == s.end),
            self.checksum.eq(~crc.state),
            crc.bytes.payload.eq(s.byte),
            s.write.data.eq(s.byte),
            s.write.addr.eq(s.index),
        ]
        m.d.sync += [s.fetching.eq(1), s.fetched.eq(s.fetching), s.found.eq(s.read.data)]
        # A zero is the length of the block that it ends, at that block's place.
        m.d.sync += s.storing.eq(0)
        with m.If(s.storing):
            m.d.comb += [s.write.en.eq(1), s.write.addr.eq(Cat(s.index, 1)), s.write.data.eq(s.stored)]
            m.d.sync += s.index.eq(s.index + 1)
            with m.If(s.stored == 0):
                m.d.comb += [s.write.addr.eq(Cat(s.block, 1)), s.write.data.eq(s.index - s.block)]
                m.d.sync += s.block.eq(s.index)

    def _state_receive(self, m: Module, s: _Store, decoder: COBSDecoder, crc: ByteCRC) -> None:
        """Bytes of the host into memory, until a frame is whole; then it is obeyed, or its reply sent again."""
        decoded = decoder.decoded
        with m.State("RECEIVE"):
            m.d.comb += [
                decoder.encoded.valid.eq(self.rx.valid),
                self.rx.ready.eq(decoder.encoded.ready),
                decoded.ready.eq(crc.bytes.ready),
                s.byte.eq(decoded.payload.byte),
            ]
            with m.If(decoded.valid & decoded.ready & ~decoded.payload.end):
                m.d.comb += [crc.bytes.valid.eq(1), s.write.en.eq(s.index != FRAME_BYTES)]
                m.d.sync += s.index.eq(s.index + 1)
                with m.If(s.index == 0):
                    m.d.sync += s.first_kind.eq(s.byte == FIRST_KIND)
                with m.If(s.index == 1):
                    m.d.sync += s.sequence.eq(s.byte)
                with m.If(s.index == FRAME_BYTES):
                    m.d.sync += [s.index.eq(s.index), s.too_long.eq(1)]
            with m.If(decoded.valid & decoded.ready & decoded.payload.end):
                m.d.comb += crc.restart.eq(1)
                m.d.sync += [s.index.eq(0), s.too_long.eq(0), s.begun.eq(0), *s.read_at(0)]
                whole = decoded.payload.byte[0] & ~s.too_long & (s.index >= HEADER_BYTES + CRC_BYTES)
                with m.If(whole & (crc.state == RESIDUE)):
                    m.d.sync += [s.last_sequence.eq(s.sequence), s.end.eq(s.index - CRC_BYTES)]
                    m.next = "OBEY"
                    with m.If((s.sequence == s.last_sequence) & ~s.first_kind):
                        m.next = "SEND"
                    with m.Else():  # a place is kept for the length of the reply's first block
                        m.d.sync += [s.index.eq(1), s.block.eq(0)]

    def _state_obey(self, m: Module, s: _Store, crc: ByteCRC) -> None:
        """The command's bytes go out as they are wanted, and the reply's come in."""
        reply = self.reply.payload
        with m.State("OBEY"):
            m.d.comb += [
                self.pending.eq(self.rx.valid),
                self.frame.valid.eq(s.fetched),
                self.reply.ready.eq(crc.bytes.ready),
                s.byte.eq(Mux(reply.part == Part.CHECKED, reply.byte[::-1], reply.byte)),
            ]
            with m.If(self.frame.valid & self.frame.ready):
                m.d.sync += s.read_at(s.place + 1)
            with m.If(self.reply.valid & self.reply.ready), m.Switch(reply.part):
                with m.Case(Part.CHECKED):
                    m.d.comb += crc.bytes.valid.eq(1)
                with m.Case(Part.BYTE):
                    m.d.comb += [crc.bytes.valid.eq(1), crc.restart.eq(~s.begun)]
                    m.d.sync += [s.begun.eq(1), *s.put(s.byte)]
                with m.Default():
                    m.next = "TAIL"

    @staticmethod
    def _state_tail(m: Module, s: _Store, crc: ByteCRC) -> None:
        """The reply's CRC, then the zero that ends it."""
        tail = Signal(2)
        with m.State("TAIL"):
            m.d.comb += s.byte.eq(crc.state[:8])
            with m.If(crc.bytes.ready):
                m.d.comb += crc.bytes.valid.eq(1)
                m.d.sync += [tail.eq(tail + 1), *s.put(~crc.state[:8])]
                with m.If(tail == 3):
                    m.next = "CLOSE"
        with m.State("CLOSE"):
            m.d.sync += s.put(0)  # ends the last block, and has the place of the delimiter
            m.next = "DELIMIT"
        with m.State("DELIMIT"), m.If(~s.storing):
            m.d.comb += [s.write.en.eq(1), s.write.addr.eq(Cat(s.block, 1)), s.write.data.eq(0)]
            m.d.sync += [s.index.eq(0), *s.read_at(0)]
            m.next = "SEND"


class _Store:
    """The frame memory's ports and the registers around it."""

    def __init__(self, write: WritePort, read: ReadPort) -> None:
        self.write, self.read = write, read
        self.index = Signal(8, name="index")  # place of the next byte, of the command or the reply
        self.block = Signal(8, name="block")  # first place of the reply's block that has not ended
        self.place = Signal(8, name="place")  # next byte to read
        self.end = Signal(8, name="end")  # behind the command's last byte
        self.fetching = Signal(name="fetching")  # the block RAM puts out the byte at `place`
        self.fetched, self.found = Signal(name="fetched"), Signal(8, name="found")  # this is the byte at `place`
        self.storing, self.stored = Signal(name="storing"), Signal(8, name="stored")  # a byte of the reply into memory
        self.sequence, self.last_sequence = Signal(8, name="sequence"), Signal(8, name="last_sequence")
        self.first_kind, self.too_long = Signal(name="first_kind"), Signal(name="too_long")
        self.begun = Signal(name="begun")  # the reply has a byte
        self.sending = Signal(name="sending")
        self.byte = Signal(8, name="byte")  # what goes into the check sum, and mostly into memory

    def read_at(self, place: Value | int) -> list:
        """Read from another place on."""
        return [self.place.eq(place), self.fetching.eq(0), self.fetched.eq(0)]

    def put(self, value: Value | int) -> list:
        """Store a byte of the reply in the next cycle."""
        return [self.stored.eq(value), self.storing.eq(1)]
