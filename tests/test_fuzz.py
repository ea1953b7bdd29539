"""A few hundred damaged inputs for every reader of outside bytes; `make fuzz` gives them millions."""

from __future__ import annotations

import random
from pathlib import Path

import pytest
from fuzz_readers import Reader, damaged, fuzz, readers


def test_damaged_inputs_are_refused_by_name():
    assert fuzz(200, seed=1) == []


def test_good_inputs_are_read(tmp_path: Path):
    """So that what is damaged would have been taken: a fuzzer of a reader that refuses everything finds nothing."""
    for name, reader in readers(tmp_path):
        if name not in ("metadata", "tokenizer", "identity"):
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
