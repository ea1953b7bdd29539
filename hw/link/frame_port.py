"""Frames of bytes: checks and stores what the host sends, packs and sends the reply, and sends it again when asked again."""

from __future__ import annotations

from amaranth.hdl import Cat, Module, Signal, Value
from amaranth.lib import data, enum, stream, wiring
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import In, Out

from tritape.base.errors import TritapeError
from tritape.hw.link.byte_crc import RESIDUE, ByteCRC
from tritape.hw.link.cobs import COBSDecoder

FRAME_BYTES = 224
"""Longest frame, CRC included, without its stuffing: a command or a reply."""
CONSTANT_BYTES = 32
HEADER_BYTES = 8
"""Bytes at the head of each command: kind, sequence number, argument u32, count u16."""
FIRST_KIND = 1
"""The kind of command that is never taken for a repetition and that reads the constant."""


class Part(enum.Enum, shape=2):  # type: ignore[call-arg]
    """What an element of the reply is."""

    BYTE = 0
    CHECKED = 1  # goes into the check sum and nowhere else; before the first BYTE only
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
            arrival to the reply's end. Reading past its last byte gives bytes without a meaning
        reply: In, stream of `Reply`: the bytes of the answer, at most `FRAME_BYTES` - 4, then END
        checksum: Out, u32: CRC-32 of the CHECKED bytes, while `reply` is ready
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
        write, read = memory.write_port(), memory.read_port()

        index = Signal(8)  # place of the next byte, of the command or the reply
        block = Signal(8)  # first place of the reply's block that has not ended
        place = Signal(8)  # next byte to read
        fetching = Signal()  # the block RAM puts out the byte at `place`
        fetched, found = Signal(), Signal(8)  # this is the byte at `place`
        storing, stored = Signal(), Signal(8)  # this byte of the reply goes into memory
        sequence, last_sequence = Signal(8), Signal(8)
        first_kind, too_long = Signal(), Signal()
        begun = Signal()  # the reply has a byte
        tail = Signal(2)
        constant, sending = Signal(), Signal()
        byte = Signal(8)  # what goes into the check sum, and mostly into memory

        m.d.comb += [
            constant.eq(first_kind & (place >= HEADER_BYTES) & ~sending),
            read.addr.eq(Cat(place[:5], place[5:] | constant.replicate(3), sending)),
            read.en.eq(1),
            self.frame.payload.eq(found),
            self.tx.payload.eq(found),
            self.checksum.eq(~crc.state),
            crc.bytes.payload.eq(byte),
            write.data.eq(byte),
            write.addr.eq(index),
            decoder.encoded.payload.eq(self.rx.payload),
        ]
        m.d.sync += [fetching.eq(1), fetched.eq(fetching), found.eq(read.data)]

        def read_at(new_place: Value | int) -> list:
            return [place.eq(new_place), fetching.eq(0), fetched.eq(0)]

        def put(value: Value | int) -> list:
            return [stored.eq(value), storing.eq(1)]

        # Stuffing: a zero is the length of the block that it ends, at that block's place.
        m.d.sync += storing.eq(0)
        with m.If(storing):
            m.d.comb += [write.en.eq(1), write.addr.eq(Cat(index, 1)), write.data.eq(stored)]
            m.d.sync += index.eq(index + 1)
            with m.If(stored == 0):
                m.d.comb += [write.addr.eq(Cat(block, 1)), write.data.eq(index - block)]
                m.d.sync += block.eq(index)

        decoded = decoder.decoded
        with m.FSM():
            with m.State("RECEIVE"):
                m.d.comb += [
                    decoder.encoded.valid.eq(self.rx.valid),
                    self.rx.ready.eq(decoder.encoded.ready),
                    decoded.ready.eq(crc.bytes.ready),
                    byte.eq(decoded.payload.byte),
                ]
                with m.If(decoded.valid & decoded.ready & ~decoded.payload.end):
                    m.d.comb += [crc.bytes.valid.eq(1), write.en.eq(index != FRAME_BYTES)]
                    m.d.sync += index.eq(index + 1)
                    with m.If(index == 0):
                        m.d.sync += first_kind.eq(byte == FIRST_KIND)
                    with m.If(index == 1):
                        m.d.sync += sequence.eq(byte)
                    with m.If(index == FRAME_BYTES):
                        m.d.sync += [index.eq(index), too_long.eq(1)]
                with m.If(decoded.valid & decoded.ready & decoded.payload.end):
                    m.d.comb += crc.restart.eq(1)
                    m.d.sync += [index.eq(0), too_long.eq(0), begun.eq(0), *read_at(0)]
                    whole = decoded.payload.byte[0] & ~too_long & (index >= HEADER_BYTES + 4)
                    with m.If(whole & (crc.state == RESIDUE)):
                        m.d.sync += last_sequence.eq(sequence)
                        m.next = "OBEY"
                        with m.If((sequence == last_sequence) & ~first_kind):
                            m.next = "SEND"
                        with m.Else():  # a place is kept for the length of the reply's first block
                            m.d.sync += [index.eq(1), block.eq(0)]
            with m.State("OBEY"):
                m.d.comb += [
                    self.pending.eq(self.rx.valid),
                    self.frame.valid.eq(fetched),
                    self.reply.ready.eq(crc.bytes.ready),
                    byte.eq(self.reply.payload.byte),
                ]
                with m.If(self.frame.valid & self.frame.ready):
                    m.d.sync += read_at(place + 1)
                with m.If(self.reply.valid & self.reply.ready), m.Switch(self.reply.payload.part):
                    with m.Case(Part.CHECKED):
                        m.d.comb += crc.bytes.valid.eq(1)
                    with m.Case(Part.BYTE):
                        m.d.comb += [crc.bytes.valid.eq(1), crc.restart.eq(~begun)]
                        m.d.sync += [begun.eq(1), *put(byte)]
                    with m.Default():
                        m.next = "TAIL"
            with m.State("TAIL"):
                m.d.comb += byte.eq(crc.state[:8])
                with m.If(crc.bytes.ready):
                    m.d.comb += crc.bytes.valid.eq(1)
                    m.d.sync += [tail.eq(tail + 1), *put(~crc.state[:8])]
                    with m.If(tail == 3):
                        m.next = "CLOSE"
            with m.State("CLOSE"):
                m.d.sync += put(0)  # ends the last block, and has the place of the delimiter
                m.next = "DELIMIT"
            with m.State("DELIMIT"), m.If(~storing):
                m.d.comb += [write.en.eq(1), write.addr.eq(Cat(block, 1)), write.data.eq(0)]
                m.d.sync += [index.eq(0), *read_at(0)]
                m.next = "SEND"
            with m.State("SEND"):
                m.d.comb += [sending.eq(1), self.tx.valid.eq(fetched), crc.restart.eq(1)]
                with m.If(self.tx.valid & self.tx.ready):
                    m.d.sync += read_at(place + 1)
                    with m.If(found == 0):
                        m.next = "RECEIVE"
        return m
