"""The host's device against the simulated gateware: noise, a pulled cable, logits, state, self test; and serial ports."""

import os
import random
import zlib

import numpy as np
import pytest
from small_board import ONE_SLOT

from tritape.base.errors import TritapeError
from tritape.host import frames, protocol, tape_device
from tritape.host.device import Device
from tritape.host.link import Link
from tritape.host.sequence_device import FEED_TOKENS
from tritape.host.transport.noisy import CutTransport, NoisyTransport
from tritape.host.transport.serial import SerialTransport
from tritape.model.checkpoint import random_checkpoint
from tritape.model.config import ModelConfig
from tritape.model.formats import quantise_model
from tritape.model.golden import IntegerModel
from tritape.model.tape.assembler import image
from tritape.sim.generate import RETRY_S, Simulation


@pytest.fixture(scope="module")
def model():
    shape = ModelConfig(vocab_size=97, hidden_size=40, num_hidden_layers=2, intermediate_size=65)
    return quantise_model(random_checkpoint(shape, seed=1), ids=list(range(8)))


@pytest.fixture(scope="module")
def simulation():
    with Simulation(ONE_SLOT) as simulation:
        yield simulation


def chosen(model, tokens, count):
    """What the golden model generates, greedily."""
    golden = IntegerModel(model)
    for token in tokens:
        logits = golden.step(token)
    out = [int(np.argmax(logits))]
    while len(out) < count:
        out.append(int(np.argmax(golden.step(out[-1]))))
    return out


@pytest.mark.slow
@pytest.mark.optimised
def test_text_state_and_logits(simulation, model):
    """A prompt longer than a command, generation on from it, logits, a state saved and restored, the self test."""
    device = Device(CutTransport(simulation), retry_s=RETRY_S)
    data = image(model, ONE_SLOT.groups, ONE_SLOT.max_rows)
    device.load_tape(data)
    rng = random.Random(5)
    prompt = [rng.randrange(97) for _ in range(FEED_TOKENS + 30)]
    expected = chosen(model, prompt, 300)
    assert list(device.generate_tokens(prompt, 200)) == expected[:200]
    state = device.save_state()
    assert len(state) < 300
    assert list(device.generate_tokens([], 100)) == expected[200:]

    device.reset()
    golden = IntegerModel(model)
    for token in (1, 2):
        golden.step(token)
    assert np.array_equal(device.logits([1, 2, 9]), golden.step(9))

    assert device.self_test()["memory"]
    device.restore_state(state)
    assert list(device.generate_tokens([], 100)) == expected[200:]
    device.restore_state(state)
    assert device.counters()["crc_errors"] == 0

    few = device.generate_tokens([], 1000)
    assert [next(few) for _ in range(3)] == expected[200:203]
    few.close()
    assert list(device.generate_tokens([], 5)) == expected[203:208]
    few = device.generate_tokens([], 1000)
    next(few)
    few.close()
    stopped = device.save_state()
    device.reset()
    device.feed([1, 2])
    device.restore_state(stopped)
    assert list(device.generate_tokens([], 90)) == expected[209:299]
    device.reset()
    assert device.feed([3]) == chosen(model, [3], 1)[0]

    for damaged, message in (
        (b"x" * 50, "state must be what save_state gave"),
        (state[:-1], "state must be whole"),
        (state[:40] + bytes([state[40] ^ 1]) + state[41:], "state must be whole"),
        (state[:8] + b"\1\2\3\4" + state[12:], "state must be of the tape that is loaded"),
    ):
        with pytest.raises(TritapeError, match=message):
            device.restore_state(damaged)
    with pytest.raises(TritapeError, match="token must be within the tape's vocabulary"):
        device.feed([97])
    assert device.link.resent == 0


@pytest.mark.long
def test_noise(simulation, model):
    """1 % of the bytes of each direction flipped, dropped or doubled: a tape and 60 tokens, nothing lost or wrong."""
    noisy = NoisyTransport(CutTransport(simulation), 0.01, seed=3)
    device = Device(noisy, retry_s=0.0004)
    data = image(model, ONE_SLOT.groups, ONE_SLOT.max_rows)
    device.write_memory(0, bytes(len(data)))  # nothing of an earlier test
    device.load_tape(data)
    assert device.read_memory(0, len(data) // ONE_SLOT.groups) == data
    device.boot()
    assert list(device.generate_tokens([7, 9], 60)) == chosen(model, [7, 9], 60)
    assert device.link.resent > 20
    assert noisy.damaged > 100


def use_forever(device, data, rng):
    while True:
        if rng.random() < 0.1:
            device.load_tape(data)
        list(device.generate_tokens([5], 40))


@pytest.mark.long
def test_cable_pulled(simulation, model):
    """The port goes away after a random number of bytes: an error at once; a new device works, without stale tokens."""
    data = image(model, ONE_SLOT.groups, ONE_SLOT.max_rows)
    Device(CutTransport(simulation), retry_s=RETRY_S).load_tape(data)
    rng = random.Random(6)
    for _ in range(12):
        wire = CutTransport(simulation)
        device = Device(wire, retry_s=RETRY_S)
        if not device.booted:
            device.load_tape(data)
        wire.left = rng.randrange(2000)
        with pytest.raises(TritapeError, match="port must stay connected"):
            use_forever(device, data, rng)
        again = Device(CutTransport(simulation), retry_s=RETRY_S)
        again.load_tape(data)
        prompt = [rng.randrange(97) for _ in range(3)]
        assert list(again.generate_tokens(prompt, 5)) == chosen(model, prompt, 5)


@pytest.mark.long
def test_an_interrupted_loading_goes_on(simulation, model, monkeypatch):
    """What was written before the break is not written again: the next loading sends what is left, and checks the rest."""
    monkeypatch.setattr(tape_device, "_CHECK_BYTES", 512)
    data, plenty = image(model, ONE_SLOT.groups, ONE_SLOT.max_rows), 1 << 30

    def load(left=plenty):
        wire = CutTransport(simulation, left)
        try:
            Device(wire, retry_s=RETRY_S).load_tape(data)
        finally:
            sent.append(left - wire.left)

    sent = []
    Device(CutTransport(simulation), retry_s=RETRY_S).write_memory(0, bytes(len(data)))
    load()
    Device(CutTransport(simulation), retry_s=RETRY_S).write_memory(0, bytes(len(data)))
    with pytest.raises(TritapeError, match="port must stay connected"):
        load(sent[0] * 3 // 4)
    load()
    assert sent[2] < sent[0] / 2
    assert list(Device(CutTransport(simulation), retry_s=RETRY_S).generate_tokens([1, 2], 3)) == chosen(
        model, [1, 2], 3
    )


@pytest.mark.parametrize(
    ("size", "baud", "low", "high"), [(105_000_000, 2_000_000, 540, 1300), (50_000, 115_200, 4.3, 6)]
)
def test_how_long_a_loading_takes(size, baud, low, high):
    """No less than its bits take, and not much more."""
    assert 10 * size / baud < tape_device.loading_seconds(size, baud)
    assert low < tape_device.loading_seconds(size, baud) < high


class Canned:
    """A transport that answers every write by a function of it."""

    def __init__(self, answer):
        self.answer, self.arrived = answer, b""

    def write(self, data):
        self.arrived += self.answer(data)

    def read(self, timeout_s):
        arrived, self.arrived = self.arrived, b""
        return arrived

    def discard(self):
        self.arrived = b""

    def close(self):
        pass


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        (lambda data: b"", r"^device must answer, not stay silent for 2 s; check the port, the cable, the baud rate"),
        (
            lambda data: data,
            r"^port must lead to a device, not back to itself; connect its transmitter to the receiver$",
        ),
        (
            lambda data: b"login: \0",
            r"^answers must be frames of the host protocol, not other bytes; check the baud rate",
        ),
        (lambda data: b"\xff" * 5000, r"^answers must be frames of the host protocol, not other bytes"),
    ],
)
def test_not_a_device(answer, message):
    with pytest.raises(TritapeError, match=message):
        Device(Canned(answer))


def test_late_answers_are_ignored():
    """Answers of an earlier session, or to an earlier command, do not count."""
    identity = protocol.IDENTITY.pack(2, 0, 16, 1, 1, 1, 1, 1, 1)
    booted = 0x40

    def answer(data):
        kind, sequence, argument, _ = protocol.HEADER.unpack_from(frames.decode(data.strip(b"\0")))
        stale = protocol.REPLY_HEADER.pack(kind | 0x80, sequence, argument ^ 1, 0, 0) + identity
        late = protocol.REPLY_HEADER.pack(kind | 0x80, (sequence - 1) % 256, argument, 0, 0) + identity
        good = protocol.REPLY_HEADER.pack(kind | 0x80, sequence, argument, 0, booted) + identity
        return b"".join(frames.encode(reply) for reply in (stale, late, good))

    assert Link(Canned(answer)).open().booted


def test_frames_keep_every_content():
    """Encoding and decoding, and damage that is found."""
    rng = random.Random(7)
    for length in (1, 2, 100, 220):
        content = bytes(rng.choice([0, 1, 255]) for _ in range(length))
        encoded = frames.encode(content)
        assert encoded[:1] == encoded[-1:] == b"\0"
        assert b"\0" not in encoded[1:-1]
        assert frames.decode(encoded[1:-1]) == content
        damaged = bytearray(encoded[1:-1])
        damaged[rng.randrange(len(damaged))] ^= 1 << rng.randrange(8)
        assert frames.decode(bytes(damaged)) != content
    assert frames.decode(b"") is None
    assert frames.decode(b"\x05\1\1") is None
    assert zlib.crc32(b"") == 0  # so an empty content is no frame
    assert frames.decode(b"\1\1\1\1\1") is None
    with pytest.raises(TritapeError, match=r"^frame must have at most 220 bytes, not 221; send less at a time$"):
        frames.encode(bytes(221))


def test_ports_that_cannot_be_opened(tmp_path):
    with pytest.raises(TritapeError, match=r"no: port must exist, not be missing; plug the board in"):
        SerialTransport(str(tmp_path / "no"))
    plain = tmp_path / "plain"
    plain.write_text("x")
    with pytest.raises(TritapeError, match=r"plain: port must be a serial port, not something else"):
        SerialTransport(str(plain))


def test_busy_port_and_port_that_goes_away():
    main, side = os.openpty()
    name = os.ttyname(side)
    first = SerialTransport(name)
    with pytest.raises(TritapeError, match=r"port must be free, not used by another program; close that one$"):
        SerialTransport(name)
    os.write(main, b"abc")
    assert first.read(1.0) == b"abc"
    assert first.read(0.01) == b""
    os.close(side)
    os.close(main)
    gone = r"port must stay connected, not go away .*; check the cable and open it again$"
    with pytest.raises(TritapeError, match=gone):
        first.read(1.0)
    with pytest.raises(TritapeError, match=gone):
        first.write(b"x")
    first.close()
    first.close()
