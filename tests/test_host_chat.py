"""Conversations: one BOS, ends of a text, and turns that go on exactly where the last one ended."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest
from llama_folder import make_folder

from tritape.host.chat import CHUNK, Conversation
from tritape.model.tokenizer import ByteTokenizer, TextCodec, Tokenizer

END = ord("z")


class Echo:
    """A device that chooses by all tokens that it has run, as a model does, and that runs ahead as far as it is let."""

    def __init__(
        self, ends_after: int | None = None, end: int = END, vocabulary: Sequence[int] = range(97, 122)
    ) -> None:
        self._ends_after, self._end, self._vocabulary = ends_after, end, vocabulary
        self.fed: list[list[int]] = []
        self.ran: list[int] = []

    def reset(self) -> None:
        self.ran = []

    def choose(self) -> int:
        if self._ends_after is not None and len(self.ran) % self._ends_after == 0:
            return self._end
        return self._vocabulary[
            sum((place + 1) * token for place, token in enumerate(self.ran)) % len(self._vocabulary)
        ]

    def generate_tokens(self, prompt: Sequence[int], count: int) -> Iterator[int]:
        self.fed.append(list(prompt))
        self.ran += prompt
        tokens = [self.choose()]
        for _ in range(count - 1):
            self.ran.append(tokens[-1])
            tokens.append(self.choose())
        yield from tokens

    def save_state(self) -> bytes:
        return bytes(self.ran)

    def restore_state(self, state: bytes) -> None:
        self.ran = list(state)


@pytest.fixture(scope="module")
def llama(tmp_path_factory: pytest.TempPathFactory) -> TextCodec:
    folder = tmp_path_factory.mktemp("llama")
    end = make_folder(folder)
    return Tokenizer(folder / "tokenizer.json", 512, [end])


def codec() -> ByteTokenizer:
    return ByteTokenizer([END])


def test_bos_comes_once(llama: TextCodec) -> None:
    device = Echo(vocabulary=llama.encode("much too very long", special=False))
    talk = Conversation(device, llama)
    bos = llama.encode("")[0]
    for text in ("Emma was very", "Mr. Knightley", ""):
        list(talk.say(text, 6))
    fed = [token for prompt in device.fed for token in prompt]
    assert fed.count(bos) == 1
    assert fed[0] == bos
    whole = llama.decode(device.ran + [device.choose()])
    assert talk.text == whole
    assert " Mr. Knightley" in whole


def test_an_end_token_ends_the_turn_and_is_not_shown() -> None:
    talk = Conversation(Echo(ends_after=5), codec())
    text = "".join(talk.say("ab", 40))
    assert (len(text), talk.generated_tokens, talk.finish_reason) == (3, 4, "stop")
    assert "z" not in text
    assert talk.text == "ab" + text
    assert list(talk.say("c", 1))
    assert talk.finish_reason == "length"


def test_end_tokens_can_be_ignored() -> None:
    talk = Conversation(Echo(ends_after=5), codec(), ignore_eos=True)
    text = "".join(talk.say("ab", 40))
    assert (len(text), text[3], talk.finish_reason) == (40, "z", "length")


@pytest.mark.parametrize("end", [1, CHUNK - 1, CHUNK, CHUNK + 1, 2 * CHUNK])
@pytest.mark.parametrize("keep", [False, True])
def test_what_the_device_ran_behind_an_end_is_undone(end: int, keep: bool, tmp_path: Path) -> None:
    """Two turns, also with a save and a load between them, leave the tokens that a device would have that stops at once."""
    device = Echo(ends_after=end + 1)
    talk = Conversation(device, codec())
    first = "".join(talk.say("ab", 60))
    if keep:
        talk.save(tmp_path / "talk.json", "aa")
        assert device.ran == list(b"ab" + first.encode())
        device.ran = [1, 2, 3]
        talk = Conversation(device, codec())
        talk.load(tmp_path / "talk.json", "aa")
    second = "".join(talk.say("cd", 60))
    talk.save(tmp_path / "talk.json", "aa")
    assert device.ran == list(b"ab" + first.encode() + b"zcd" + second.encode())
    assert talk.text == "ab" + first + "cd" + second


def test_a_turn_closed_early_keeps_all_that_was_run() -> None:
    device = Echo()
    talk = Conversation(device, codec())
    turn = talk.say("ab", 100)
    shown = next(turn)
    turn.close()
    assert talk.finish_reason is None
    assert talk.generated_tokens == CHUNK
    assert talk.text.startswith("ab" + shown)
    assert talk.text == bytes(device.ran).decode() + chr(device.choose())
