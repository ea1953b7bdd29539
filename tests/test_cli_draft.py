"""`--draft` at the command line: the same text in fewer steps, its figures in the JSON, and what is refused."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path

import pytest

from tritape import cli
from tritape.base.errors import TritapeError
from tritape.cli import bench, run
from tritape.cli.serve import _served
from tritape.host import draft
from tritape.host.device import Device
from tritape.hw.config import Config
from tritape.model.open import OpenModel, open_model
from tritape.sim.golden_device import GoldenDevice, Times

TIMES = Times(step_s=8e-3, exchange_s=20e-6, byte_s=1e-8)
TOKENS = 40


@cache
def model(name: str) -> OpenModel:
    """Opened once for all tests, for that takes a second."""
    return open_model(name)


@pytest.fixture
def opened(monkeypatch: pytest.MonkeyPatch) -> list[GoldenDevice]:
    """A device with four slots behind every port; those that were opened."""
    devices: list[GoldenDevice] = []
    small = model("small")

    @contextmanager
    def open_device(port: str, board: str | None, baud: int | None) -> Iterator[Device]:
        devices.append(GoldenDevice(Config.for_model(small.config, 16, batch=4), small.quantised, TIMES, host=False))
        device = Device(devices[-1])
        device.pace.clock = devices[-1].now
        yield device

    for module in (run, bench):
        monkeypatch.setattr(module, "open_device", open_device)
        monkeypatch.setattr(module, "find_model", lambda *_: small)
    monkeypatch.setattr(draft, "open_model", model)
    return devices


def command(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> int:
    monkeypatch.setattr(sys, "argv", ["tritape", *arguments])
    with pytest.raises(SystemExit) as end:
        cli.main()
    return end.value.code or 0


@pytest.mark.parametrize("name", ["tiny", "ngram"])
def test_run(name: str, opened: list[GoldenDevice], monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    out, asked = (
        tmp_path / "out.json",
        ["run", "--port", "X", "Emma was", "-n", str(TOKENS), "-t", "0.7", "--seed", "3"],
    )
    found = []
    for more in ([], ["--draft", name]):
        assert command(monkeypatch, *asked, "--json", str(out), *more) == 0
        found.append(json.loads(out.read_text()))
    plain, guessed = found
    assert plain["text"] == guessed["text"]
    assert plain["tokens_per_second"] > 0
    assert "accepted_per_step" not in plain
    assert guessed["draft_seconds"] >= 0
    assert guessed["accepted_per_step"] > 0.5 if name == "tiny" else guessed["accepted_per_step"] >= 0
    assert (opened[1].steps < 0.6 * opened[0].steps) == (name == "tiny")


def test_bench(opened: list[GoldenDevice], monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    out, asked = tmp_path / "out.json", ["bench", "--port", "X", "--tokens", "16", "--generations", "1", "--idle", "0"]
    assert command(monkeypatch, *asked, "--draft", "tiny", "--json", str(out)) == 0
    assert {"tokens_per_second", "accepted_per_step", "draft_seconds"} <= set(json.loads(out.read_text())["board"])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            ["run", "--port", "X", "Emma", "--draft", "nano"],
            "nano: tokenizer of the draft must be that of small (512 tokens)",
        ),
        (["chat", "--port", "X", "--draft", "nano"], "nano: tokenizer of the draft must be that of small (512 tokens)"),
        (["bench", "--cpu", "--draft", "ngram"], "--draft must come with --port, not alone; add it"),
    ],
)
def test_refused(
    arguments: list[str],
    message: str,
    opened: list[GoldenDevice],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
):
    """Before a port is opened."""
    assert command(monkeypatch, *arguments) == 2
    assert message in capsys.readouterr().err
    assert not opened


def test_devices_of_two_kinds():
    small = model("small")
    devices = [
        Device(GoldenDevice(Config.for_model(small.config, 16, batch=batch), small.quantised)) for batch in (4, 1)
    ]
    with pytest.raises(
        TritapeError, match=r"^devices behind one server must all have one slot, or all several, not both; "
    ):
        _served(small, devices, False)
