"""Recorded sessions: what a host may do with one, and what is refused.

`python tests/test_host_replay.py` records the session again, after a wanted change of host or protocol.
"""

from __future__ import annotations

import random
from pathlib import Path

import pytest
from small_board import SMALL, golden, small_model

from tritape.base.errors import TritapeError
from tritape.host.device import Device
from tritape.host.transport.replay import ReplayTransport
from tritape.model.tape.assembler import image

SESSION = "# tritape session 1: small 0123456789abcdef\n> 0102\n> 03\n< aabb\n> 04\n< cc\n"
RECORDED = Path(__file__).parent / "data" / "session-small.txt"
"""`session` with the virtual board `small_board.SMALL`, with `random.seed(1)` before."""


def session(device: Device) -> tuple[list[int], list[int]]:
    """What the recorded host did: load a tape, generate, keep the state, generate on, go back, generate again."""
    model = small_model(16)
    with device:
        device.load_tape(image(model, device.identity.groups, device.identity.max_rows))
        device.settings(0.0)
        device.reset()
        first = list(device.generate_tokens([5, 6], 8))
        state = device.save_state()
        second = list(device.generate_tokens([1], 4))
        device.restore_state(state)
        assert list(device.generate_tokens([1], 4)) == second
        assert device.counters()["crc_errors"] == 0
        return first, second


def test_the_recorded_session():
    """Today's host sends the recorded bytes, one for one, and reads the recorded answers as it did."""
    random.seed(1)
    replay = ReplayTransport(RECORDED)
    first, second = session(Device(replay))
    replay.end()
    model = small_model(16)
    assert first == golden(model, [5, 6], 8)
    assert second == golden(model, [5, 6, *first[:7], 1], 4)


@pytest.fixture
def path(tmp_path) -> Path:
    path = tmp_path / "s.txt"
    path.write_text(SESSION)
    return path


def test_turns(path):
    replay = ReplayTransport(path)
    assert replay.board == "small"
    assert replay.read(0.1) == b""
    replay.write(b"\x01")
    assert replay.read(0.1) == b""
    replay.write(b"\x02\x03")
    assert replay.read(0.1) == b"\xaa\xbb"
    assert replay.read(0.1) == b""
    replay.write(b"\x04")
    with pytest.raises(TritapeError, match=r"s.txt: session must be played to its end, not have 1 bytes left"):
        replay.end()
    assert replay.read(0.1) == b"\xcc"
    replay.end()


def test_any_other_byte_is_refused(path):
    replay = ReplayTransport(path)
    with pytest.raises(TritapeError, match="byte 1 to the device must be 0x02, not 0x07; record again"):
        replay.write(b"\x01\x07")
    replay = ReplayTransport(path)
    replay.write(b"\x01\x02\x03")
    with pytest.raises(TritapeError, match=r"byte 3 to the device must not come \(the device speaks\), not be 0x04"):
        replay.write(b"\x04")
    replay.read(1)
    replay.write(b"\x04")
    replay.read(1)
    with pytest.raises(TritapeError, match=r"byte 4 to the device must not come \(the session has ended\)"):
        replay.write(b"\x05")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "file must be a recorded session"),
        ("something\n", "file must be a recorded session"),
        ("# tritape session 1: x 0\n> 0g\n", "line 2 must be < or > and hexadecimal bytes, not '> 0g'"),
        ("# tritape session 1: x 0\n> 01\n? 01\n", "line 3 must be"),
        ("# tritape session 1: x 0\n>\n", "line 2 must be"),
    ],
)
def test_files_that_are_no_session(path, text, message):
    path.write_text(text)
    with pytest.raises(TritapeError, match=message):
        ReplayTransport(path)


def record() -> None:
    """Write `RECORDED` anew."""
    from tritape.sim.virtual_board import VirtualBoard

    random.seed(1)
    with VirtualBoard(SMALL, record=RECORDED) as virtual:
        session(Device.open(virtual.port, baud=SMALL.baud, retry_s=1.0))


if __name__ == "__main__":
    record()
