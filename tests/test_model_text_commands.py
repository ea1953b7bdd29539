"""The commands on a model with a tokenizer of the published checkpoints' kind: `run`, `chat`, `pack`, `perplexity`, `generate`.

The board is this processor's integer model: the same tokens as the fabric's (tests/test_host_cpu.py).
"""

from __future__ import annotations

import io
import json
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from llama_folder import make_folder, set_config, special_token

from tritape.base.errors import TritapeError
from tritape.cli import app, register
from tritape.host.cpu import CPUModel
from tritape.host.device import Device
from tritape.host.jobs import Job
from tritape.model.open import OpenModel, open_model
from tritape.model.tokenizer import Tokenizer

PROMPT = "Emma was very"
TRUNCATION = {"direction": "Right", "max_length": 4, "strategy": "LongestFirst", "stride": 0}
PADDING = {
    "strategy": {"Fixed": 16},
    "direction": "Right",
    "pad_to_multiple_of": None,
    "pad_id": 0,
    "pad_type_id": 0,
    "pad_token": "!",
}


class Board(CPUModel):
    """This processor in the place of a board; `fed` is what it was given to run."""

    link = SimpleNamespace(resent=0)

    def __init__(self, opened: OpenModel) -> None:
        super().__init__(opened.quantised)
        self.fed: list[int] = []

    def generate_tokens(self, prompt: Sequence[int], count: int) -> Iterator[int]:
        self.fed += prompt
        return super().generate_tokens(prompt, count)

    def counters(self) -> dict[str, int]:
        return {"crc_errors": 0}

    def speculate(self, draft: object) -> None:
        assert draft is None


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("models") / "llama"
    make_folder(path)
    return path


@pytest.fixture(scope="module")
def board(folder: Path) -> Board:
    return Board(open_model(folder))


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, board: Board) -> Any:
    """A command on the board."""
    register()

    @contextmanager
    def open_device(*_arguments: object) -> Iterator[Board]:
        board.fed = []
        yield board

    for name, value in (("open_device", open_device), ("load", lambda *_: None), ("set_sampler", lambda *_: None)):
        monkeypatch.setattr(f"tritape.cli.run.{name}", value)

    def call(*arguments: str) -> None:
        app(list(arguments), standalone_mode=False)

    return call


def generated(run: Any, folder: Path, tmp_path: Path, *options: str, prompt: str = PROMPT) -> dict[str, Any]:
    run("run", "--port", "none", prompt, "--model", str(folder), "--json", str(tmp_path / "r.json"), *options)
    return json.loads((tmp_path / "r.json").read_text())


def test_the_first_token_keeps_its_space_and_an_end_ends(
    run: Any, folder: Path, tmp_path: Path, board: Board, capsys: pytest.CaptureFixture[str]
) -> None:
    found = generated(run, folder, tmp_path, "--tokens", "40")
    end = json.loads((folder / "config.json").read_text())["eos_token_id"]
    assert found["text"].startswith(" much ")
    assert found["finish_reason"] == "stop"
    assert found["token_ids"][-1] == end == 94
    assert found["tokens"] == len(found["token_ids"]) == 15
    assert capsys.readouterr().out == PROMPT + found["text"] + "\n"
    codec = Tokenizer(folder / "tokenizer.json")
    prompt = codec.encode(PROMPT)
    assert codec.decode(prompt + found["token_ids"]) == PROMPT + found["text"]
    on = generated(run, folder, tmp_path, "--tokens", "40", "--ignore-eos")
    assert (on["tokens"], on["finish_reason"]) == (40, "length")
    assert on["token_ids"][:15] == found["token_ids"]
    assert on["text"].startswith(found["text"])


def test_ends_may_be_several_and_in_the_generation_settings(run: Any, folder: Path, tmp_path: Path) -> None:
    first = generated(run, folder, tmp_path, "--ignore-eos", "--tokens", "6")["token_ids"]
    other = tmp_path / "list"
    end = make_folder(other)
    set_config(other, eos_token_id=[end, 3])
    assert generated(run, other, tmp_path, "--tokens", "40")["tokens"] == 15
    run("pack", str(other), "-o", str(tmp_path / "list.tape"))
    assert generated(run, tmp_path / "list.tape", tmp_path, "--tokens", "40")["tokens"] == 15
    (other / "generation_config.json").write_text(json.dumps({"eos_token_id": [first[2]]}))
    assert generated(run, other, tmp_path, "--tokens", "40")["tokens"] == first.index(first[2]) + 1
    run("pack", str(other), "-o", str(tmp_path / "list.tape"))
    assert generated(run, tmp_path / "list.tape", tmp_path)["tokens"] == first.index(first[2]) + 1


@pytest.mark.parametrize(
    "changes",
    [
        {"truncation": TRUNCATION},
        {"padding": PADDING},
        {"added_tokens": None},  # one past the embedding
    ],
    ids=["truncation", "padding", "beyond"],
)
def test_what_the_tokenizer_file_does_not_decide(
    run: Any, folder: Path, tmp_path: Path, board: Board, changes: dict[str, Any]
) -> None:
    other = tmp_path / "other"
    if "added_tokens" in changes:
        make_folder(other)
        added = json.loads((other / "tokenizer.json").read_text())["added_tokens"]
        changes = {"added_tokens": [*added, special_token(512, "[PAD]")]}
    make_folder(other, **changes)
    (tmp_path / "text").write_text(PROMPT * 4)
    wanted = generated(run, folder, tmp_path), board.fed
    assert (generated(run, other, tmp_path), board.fed)[0]["text"] == wanted[0]["text"]
    assert board.fed == wanted[1]
    run("perplexity", str(other), str(tmp_path / "text"), "--json", str(tmp_path / "p.json"))
    tokens = json.loads((tmp_path / "p.json").read_text())["tokens"]
    assert tokens == len(Tokenizer(folder / "tokenizer.json").encode(PROMPT * 4)) - 1
    if "added_tokens" in changes:
        with pytest.raises(TritapeError, match=r"ids of a text must be below vocab_size 512, not 512 \('\[PAD\]'\)"):
            generated(run, other, tmp_path, prompt="a [PAD]")


def test_bos_comes_once_in_a_chat(
    run: Any, folder: Path, board: Board, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    bos = json.loads((folder / "config.json").read_text())["bos_token_id"]
    monkeypatch.setattr(sys, "stdin", io.StringIO(f"{PROMPT}\nMr. Knightley\n\n/reset\n{PROMPT}\n"))
    run("chat", "--port", "none", "--model", str(folder), "--tokens", "6", "--temperature", "0")
    assert board.fed.count(bos) == 2  # once a conversation
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 4
    assert lines[0] == lines[3]
    assert lines[0].startswith(" much ")


class Scripted(Device):
    """A device's text side on given tokens."""

    def __init__(self, codec: Tokenizer, tokens: Sequence[int]) -> None:
        self.tokenizer, self._tokens = codec, tokens

    def settings(self, temperature: float = 0.0, seed: int = 0) -> None: ...

    def reset(self) -> None: ...

    def generate_tokens(self, prompt: Sequence[int], count: int) -> Iterator[int]:
        return iter(self._tokens[:count])

    def run_jobs(self, jobs: Sequence[Job]) -> Iterator[tuple[int, int]]:
        for number, job in enumerate(jobs):
            job.tokens += self._tokens[: job.count]
            yield number, 0


def test_text_of_a_device(folder: Path) -> None:
    """`Device.generate` and `generate_many` give the text behind the prompt, up to its end."""
    end = 94
    codec = Tokenizer(folder / "tokenizer.json", 512, [end])
    words = codec.encode("much obliged", special=False)
    device = Scripted(codec, [*words, end, *words])
    assert "".join(device.generate(PROMPT, 40)) == " much obliged"
    assert device.generate_many([PROMPT, "Miss"], 40) == [" much obliged"] * 2
    assert "".join(device.generate(PROMPT, 1)) == codec.decode([*codec.encode(PROMPT), words[0]])[len(PROMPT) :]


@pytest.mark.slow
def test_generate_in_simulation(run: Any, folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    options = ("--tokens", "24", "--no-check", "--json", str(tmp_path / "g.json"))
    run("generate", PROMPT, "--model", str(folder), *options)
    found = json.loads((tmp_path / "g.json").read_text())
    assert found["text"] == generated(run, folder, tmp_path)["text"]
    assert (found["tokens"], found["finish_reason"]) == (15, "stop")
