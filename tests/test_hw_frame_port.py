"""Frames in gateware: exchanges, repetitions, damage."""

import random
import zlib

import pytest
from amaranth.hdl import Module, Signal
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out

from tritape.base.errors import TritapeError
from tritape.host import frames
from tritape.hw.link.cobs import COBSDecoder
from tritape.hw.link.frame_port import CONSTANT_BYTES, FRAME_BYTES, FramePort, Part
from tritape.sim.bench import SIMULATORS, check_streams

CONSTANT = bytes(range(100, 100 + CONSTANT_BYTES))


class Reverser(wiring.Component):
    """Obeys a command by a reply of its sequence number, `count` (byte 6) bytes behind the header, each plus one."""

    def __init__(self):
        super().__init__({"rx": In(stream.Signature(8)), "tx": Out(stream.Signature(8))})

    def elaborate(self, _platform: object) -> Module:
        m = Module()
        m.submodules.port = port = FramePort(CONSTANT)
        wiring.connect(m, wiring.flipped(self.rx), port.rx)
        wiring.connect(m, port.tx, wiring.flipped(self.tx))
        place, count, kept = Signal(8), Signal(8), Signal(8)
        with m.FSM():
            with m.State("TAKE"):
                m.d.comb += port.frame.ready.eq(1)
                with m.If(port.frame.valid):
                    m.d.sync += [place.eq(place + 1), kept.eq(port.frame.payload + 1)]
                    with m.If(place == 1):
                        m.d.sync += kept.eq(port.frame.payload)
                    with m.If(place == 6):
                        m.d.sync += count.eq(port.frame.payload)
                    with m.If((place == 1) | (place >= 8)):
                        m.next = "GIVE"
                    with m.If((place == 7) & (count == 0)):
                        m.next = "END"
            with m.State("GIVE"):
                m.d.comb += [port.reply.valid.eq(1), port.reply.payload.byte.eq(kept)]
                with m.If(port.reply.ready):
                    m.next = "TAKE"
                    with m.If(place >= 8):
                        m.d.sync += count.eq(count - 1)
                        with m.If(count == 1):
                            m.next = "END"
            with m.State("END"):
                m.d.comb += [port.reply.valid.eq(1), port.reply.payload.part.eq(Part.END)]
                with m.If(port.reply.ready):
                    m.d.sync += [place.eq(0), count.eq(0)]
                    m.next = "TAKE"
        return m


def command(kind: int, sequence: int, data: bytes = b"", count: int | None = None) -> bytes:
    return bytes([kind, sequence, 0, 0, 0, 0, len(data) if count is None else count, 0]) + data


def answer(sequence: int, data: bytes) -> bytes:
    return frames.encode(bytes([sequence]) + bytes((b + 1) & 255 for b in data))[
        1:
    ]  # the gateware sends no leading zero


@pytest.mark.parametrize("simulator", SIMULATORS)
def test_exchanges(simulator: str):
    """Replies of many lengths and with many zeros; a repetition is answered alike; the first kind reads the constant."""
    rng = random.Random(2)
    sent = replies = b""
    for sequence, length in enumerate([0, 1, 2, 30, 100, FRAME_BYTES - 12, 5, 200], start=1):
        data = bytes(rng.choice([0, 255, 7, rng.randrange(256)]) for _ in range(length))
        once = frames.encode(command(9, sequence, data))
        sent += once * (1 + sequence % 2)
        replies += answer(sequence, data) * (1 + sequence % 2)
    sent += frames.encode(command(1, 8, count=CONSTANT_BYTES)) * 2  # never a repetition
    replies += answer(8, CONSTANT) * 2
    check_streams(Reverser(), inputs={"rx": list(sent)}, expected={"tx": list(replies)}, simulator=simulator)


def test_damage_is_dropped():
    """Noise, cut, lengthened, shortened and long frames between good ones are dropped in silence."""
    rng = random.Random(3)
    sent = replies = b""
    for sequence in range(1, 60):
        data = rng.randbytes(rng.randrange(40))
        good = frames.encode(command(5, sequence, data))
        for _ in range(rng.randrange(3)):
            bad = bytearray(good)
            at = rng.randrange(1, len(bad) - 1)
            match rng.randrange(5):
                case 0:
                    bad[at] ^= 1 << rng.randrange(8)
                case 1:
                    del bad[at]
                case 2:
                    bad.insert(at, bad[at] ^ 0x40)
                case 3:
                    bad = bytearray(rng.randbytes(rng.randrange(600)))
                case 4:
                    short = command(5, sequence)[: rng.randrange(1, 8)]
                    bad = bytearray(frames.encode(short))
            sent += bytes(bad)
        sent += good
        replies += answer(sequence, data)
    too_long = bytes([5, 99, 0, 0, 0, 0, 1, 0]) + bytes([7] * (FRAME_BYTES - 11))
    from cobs import cobs

    sent += cobs.encode(too_long + zlib.crc32(too_long).to_bytes(4, "little")) + frames.encode(command(5, 61))
    replies += answer(61, b"")
    check_streams(Reverser(), inputs={"rx": list(sent)}, expected={"tx": list(replies)}, simulator="verilator")


def test_decoder_alone():
    """Every block length and zeros at every place, against the library's encoder; a cut block ends with 0."""
    from cobs import cobs

    rng = random.Random(4)
    encoded, decoded = b"", []
    for length in [0, 1, 2, 5, 100, 253]:
        for zeros in (0.0, 0.1, 0.9):
            data = bytes(0 if rng.random() < zeros else rng.randrange(1, 256) for _ in range(length))
            encoded += bytes(rng.randrange(3)) + cobs.encode(data) + b"\0"
            decoded += [{"byte": b, "end": 0} for b in data] + [{"byte": 1, "end": 1}]
    encoded += bytes([5, 1, 2, 0, 0, 9, 0])
    decoded += [{"byte": 1, "end": 0}, {"byte": 2, "end": 0}, {"byte": 0, "end": 1}, {"byte": 0, "end": 1}]
    check_streams(COBSDecoder(), inputs={"encoded": list(encoded)}, expected={"decoded": decoded})


def test_constant_too_long():
    with pytest.raises(TritapeError, match=r"^constant must have at most 32 bytes, not 33; shorten it$"):
        FramePort(bytes(33))
