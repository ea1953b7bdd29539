"""The virtual board: text over a pseudo-terminal and UART pins against the golden model, conversations, recordings."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import serial
from small_board import SMALL, golden, small_model

from tritape.base.errors import TritapeError
from tritape.cli.device import is_greedy
from tritape.host.chat import Conversation
from tritape.host.device import Device
from tritape.host.transport.replay import ReplayTransport
from tritape.host.transport.serial import SerialTransport
from tritape.model.quantised import QuantisedModel
from tritape.model.tape.assembler import image
from tritape.model.tokenizer import ByteTokenizer
from tritape.rtl_gen.boards import Board, board
from tritape.sim.virtual_board import VirtualBoard

pytestmark = [pytest.mark.slow, pytest.mark.optimised]

RETRY_S = 1.0  # simulated time is slow


def load(device: Device, model: QuantisedModel) -> None:
    device.load_tape(image(model, device.identity.groups, device.identity.max_rows))


@pytest.fixture(scope="module")
def virtual() -> Iterator[VirtualBoard]:
    with VirtualBoard(SMALL) as running:
        yield running


@pytest.fixture
def device(virtual) -> Iterator[Device]:
    with Device.open(virtual.port, baud=SMALL.baud, retry_s=RETRY_S) as opened:
        yield opened


def test_identity_and_self_test(device):
    assert device.identity.configuration == SMALL.config.hash64()
    assert device.identity.memory_words == SMALL.memory_words
    assert device.self_test()["memory"] is True


def test_text_equals_golden_model(device):
    """Greedy and sampled, over pins; the second load finds the tape in place."""
    model = small_model()
    load(device, model)
    device.settings(0.0)
    device.reset()
    assert list(device.generate_tokens([7, 1, 200], 24)) == golden(model, [7, 1, 200], 24)
    load(device, model)
    device.settings(0.9, seed=11)
    device.reset()
    inverse = round(2.0 ** (23 - model.logit_fraction) / 0.9)
    sampled = golden(model, [3], 24, inverse, seed=11)
    assert list(device.generate_tokens([3], 24)) == sampled
    assert len(set(sampled)) > 8
    assert device.counters()["crc_errors"] == 0


def test_conversation_saved_and_taken_up(device, tmp_path):
    """Two turns with a save, other use of the device, and a load between them equal two turns without."""
    model, codec = small_model(), ByteTokenizer()
    load(device, model)
    device.settings(0.0)
    whole = Conversation(device, codec)
    first = list(whole.say("one two", 20))
    second = list(whole.say(" three", 10))
    talk = Conversation(device, codec)
    assert list(talk.say("one two", 20)) == first
    talk.save(tmp_path / "talk.json", "aa" * 32)
    list(Conversation(device, codec).say("something else", 5))
    again = Conversation(device, codec)
    again.load(tmp_path / "talk.json", "aa" * 32)
    assert again.text == talk.text
    assert list(again.say(" three", 10)) == second
    assert again.text == whole.text
    with pytest.raises(
        TritapeError, match="conversation must be of model bbbbbbbbbbbb, not aaaaaaaaaaaa; load the model"
    ):
        again.load(tmp_path / "talk.json", "bb" * 32)
    (tmp_path / "talk.json").write_text("{}")
    with pytest.raises(TritapeError, match="conversation must be a file that `tritape chat` saved, not KeyError"):
        again.load(tmp_path / "talk.json", "aa" * 32)


def test_turn_that_is_cut_short_goes_on_exactly(device):
    """A turn closed early ends with its chunk, and the next turn continues the same sequence."""
    model, codec = small_model(), ByteTokenizer()
    load(device, model)
    device.settings(0.0)
    talk = Conversation(device, codec)
    pieces = talk.say("ab", 100)
    next(pieces)
    pieces.close()
    done = talk.generated_tokens
    assert 1 <= done < 40
    rest = "".join(talk.say("", 12))
    expected = golden(model, codec.encode("ab"), done + 12)
    assert talk.text.startswith("ab" + codec.decode(expected[:done])[:1])
    assert rest == codec.decode(expected[done:])


def test_busy_port(virtual, device):
    with pytest.raises(TritapeError, match="port must be free, not used by another program"):
        Device.open(virtual.port)


def test_record_and_replay(tmp_path):
    """A session replays byte by byte, and a host that sends another byte is told where."""
    path, model = tmp_path / "session.txt", small_model(16)

    def session(device: Device) -> list[int]:
        with device:
            load(device, model)
            device.settings(0.0)
            device.reset()
            return list(device.generate_tokens([5, 6], 8))

    random.seed(1)
    with VirtualBoard(SMALL, record=path) as virtual:
        assert not path.exists(), "a recording appears whole, at the end"
        recorded = session(Device.open(virtual.port, baud=SMALL.baud, retry_s=RETRY_S))
    assert not list(tmp_path.glob("*.part"))
    random.seed(1)
    replay = ReplayTransport(path)
    assert session(Device(replay)) == recorded == golden(model, [5, 6], 8)
    replay.end()
    assert replay.board == "small"

    random.seed(1)
    replay = ReplayTransport(path)
    other = Device(replay)
    with pytest.raises(TritapeError, match=r"session.txt: byte \d+ to the device must be 0x"):
        load(other, small_model(17))
    with pytest.raises(TritapeError, match=r"session must be played to its end, not have \d+ bytes left"):
        replay.end()


def test_board_is_idle_when_nothing_happens(virtual):
    """No processor time is used while no byte moves, once the clock has run on for a while."""
    deadline = time.monotonic() + 60
    used = 1.0
    while used >= 0.1 and time.monotonic() < deadline:
        before = _cpu_seconds(virtual._process.pid)
        time.sleep(0.5)
        used = _cpu_seconds(virtual._process.pid) - before
    assert used < 0.1


def test_ctrl_c_leaves_nothing_behind():
    """The command that people use: interrupted, it ends with its process and its terminal."""
    program = (
        "import dataclasses, tritape.rtl_gen.boards as b, tritape.cli as c\n"
        "import sys; sys.path.insert(0, 'tests'); from small_board import SMALL\n"
        "b.board = lambda name: SMALL\n"
        "import sys; sys.argv = ['tritape', 'board', 'small', '--pty']\n"
        "c.main()\n"
    )
    root = Path(__file__).parent.parent
    process = subprocess.Popen(
        [sys.executable, "-c", program], cwd=root, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    port = process.stdout.readline().strip()
    assert os.path.exists(port)
    with serial.Serial(port, 1_000_000, timeout=1):
        children = _children(process.pid)
        assert len(children) == 1
        process.send_signal(signal.SIGINT)
        _, said = process.communicate(timeout=20)
    assert process.returncode == 0, said
    assert "Traceback" not in said
    assert not any(os.path.exists(f"/proc/{child}") for child in children)


def _children(pid: int) -> list[int]:
    text = Path(f"/proc/{pid}/task/{pid}/children").read_text()
    return [int(child) for child in text.split()]


def _cpu_seconds(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def test_port_that_is_not_a_device(tmp_path):
    """What opens but never answers, answers nonsense, or is no port at all."""
    master, slave = os.openpty()
    try:
        with pytest.raises(TritapeError, match="device must answer, not stay silent for 2 s; check the port"):
            Device(SerialTransport(os.ttyname(slave)))
    finally:
        os.close(master)
        os.close(slave)
    with pytest.raises(TritapeError, match="port must exist, not be missing; plug the board in"):
        Device.open(str(tmp_path / "ttyUSB7"))
    (tmp_path / "file").write_text("x")
    with pytest.raises(TritapeError, match="port must be a serial port, not something else"):
        Device.open(str(tmp_path / "file"))


LARGE = pytest.mark.long  # minutes of compiling


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=LARGE) for name in ("ulx3s-85f", "ulx3s-25f", "icebreaker", "icepi-zero-sdram")]
)
def test_text_on_real_boards(name):
    """Each board's own configuration, memory and UART, with a small model: text equals the golden model's."""
    found: Board = board(name)
    if found.dram is not None:
        pytest.importorskip("litedram", reason="pip install 'tritape[litedram]'")
    model = small_model()
    with VirtualBoard(found) as virtual, Device.open(virtual.port, baud=found.baud, retry_s=RETRY_S) as device:
        assert device.identity.configuration == found.config.hash64()
        load(device, model)
        temperature = 0.0 if found.config.serial else 0.7
        device.settings(temperature, seed=2)
        device.reset()
        inverse = round(2.0 ** (23 - model.logit_fraction) / temperature) if temperature else 0
        assert is_greedy(device) == found.config.serial
        assert list(device.generate_tokens([70, 1], 16)) == golden(model, [70, 1], 16, inverse, seed=2)
