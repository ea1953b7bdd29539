"""A few hundred damaged inputs for every reader of outside bytes, and thousands of frames; `make fuzz` gives them millions."""

from __future__ import annotations

import random
from pathlib import Path

import pytest
from fuzz_readers import Reader, damaged, fuzz, fuzz_all, readers

from tritape.base.errors import TritapeError
from tritape.host.transport.replay import ReplayTransport
from tritape.sim.faults import frames


def test_damaged_inputs_are_refused_by_name():
    assert fuzz(200, seed=1) == []


def test_good_inputs_are_read(tmp_path: Path):
    """So that what is damaged would have been taken: a fuzzer of a reader that refuses everything finds nothing."""
    for _, reader in readers(tmp_path):
        reader.read(reader.good)


def test_an_undocumented_error_is_reported(monkeypatch: pytest.MonkeyPatch):
    def read(data: bytes) -> None:
        raise KeyError(data[:0].decode())

    monkeypatch.setattr("fuzz_readers.readers", lambda folder: iter([("broken", Reader(b"good", read))]))
    assert fuzz(2) == [f"broken, seed 0, input {number}: KeyError: ''" for number in range(2)]


def test_damage_changes_most_inputs_and_is_repeatable():
    good = bytes(range(200))
    made = [damaged(good, random.Random(f"{number}")) for number in range(100)]
    assert sum(data != good for data in made) > 90
    assert made == [damaged(good, random.Random(f"{number}")) for number in range(100)]


def test_processes_share_the_inputs():
    result = fuzz_all(20, "state", seed=3, jobs=2)
    assert (result["inputs"], result["failures"]) == ({"state": 20}, [])


def test_what_hangs_is_ended(monkeypatch: pytest.MonkeyPatch):
    def read(data: bytes) -> None:
        while True:
            pass

    monkeypatch.setattr("fuzz_readers.SECONDS", 0.1)
    monkeypatch.setattr("fuzz_readers.readers", lambda folder: iter([("endless", Reader(b"good", read))]))
    assert fuzz(1) == ["endless, seed 0, input 0: took more than 0.1 s"]


def test_frames_against_the_link():
    """Whole, damaged and repeated frames: each has its reply or none, and the link always takes the next byte."""
    told = frames.fuzz(3000, seed=1)
    assert told["frames"] == 3000
    assert min(told["obeyed"], told["repeated"], told["dropped"]) > 30


def test_a_wrong_reply_of_the_link_is_seen(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(frames, "identity", lambda *arguments: bytes(27))
    with pytest.raises(TritapeError, match=r"seed 1000, frame 7: IDENTIFY must tell the identity"):
        frames.fuzz(100, seed=1)


def test_a_session_without_a_board_is_refused(tmp_path: Path):
    """Found by the fuzzer."""
    (tmp_path / "session.txt").write_text("# tritape session 1: \n> 00\n")
    with pytest.raises(TritapeError, match=r"file must be a recorded session, not something else; record one$"):
        ReplayTransport(tmp_path / "session.txt")
