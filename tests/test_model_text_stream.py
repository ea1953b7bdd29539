"""Streams under decoders of every kind: pieces add up, and come as soon as nothing can change them."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import pytest
import tokenizers
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import decoders, models

from tritape.model.text.stream import Decoding, clean_up, until_end
from tritape.model.tokenizer import Tokenizer

PLAIN = ["▁a", "▁", "▁▁", "b", "##c", "d</w>", "</w>", " ", "'", "n't", ".", "ve"]
WORDS = [*PLAIN, "<0x41>", "<0xC3>", "<0xA9>", "<0xFF>", "Ã", "©"]
SPECIAL = len(WORDS)
SEQUENCE = [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()]
KINDS: dict[str, tuple[Any, Decoding]] = {
    "none": (None, Decoding.LOCAL),
    "byte-level": (decoders.ByteLevel(), Decoding.UTF8),
    "metaspace": (decoders.Metaspace(), Decoding.LOCAL),
    "metaspace-never": (decoders.Metaspace(prepend_scheme="never"), Decoding.LOCAL),
    "word-piece": (decoders.WordPiece(cleanup=True), Decoding.LOCAL),
    "word-piece-plain": (decoders.WordPiece(cleanup=False), Decoding.LOCAL),
    "bpe": (decoders.BPEDecoder(), Decoding.LOCAL),
    "llama": (decoders.Sequence([*SEQUENCE, decoders.Strip(" ", 1, 0)]), Decoding.BYTE_RUN),
    "strip-two": (decoders.Sequence([*SEQUENCE, decoders.Strip(" ", 2, 0)]), Decoding.BYTE_RUN),
    "nested": (decoders.Sequence([decoders.Sequence(SEQUENCE[:2]), decoders.Metaspace()]), Decoding.BYTE_RUN),
    "replace-behind": (decoders.Sequence([decoders.Fuse(), decoders.Replace("▁", " ")]), Decoding.LOCAL),
    "ctc": (decoders.CTC("b", "d</w>"), Decoding.WHOLE),
    "pairs": (decoders.Sequence([decoders.Fuse(), decoders.Replace("b.", "!")]), Decoding.WHOLE),
    "cleaned": (decoders.Sequence([decoders.Fuse(), decoders.WordPiece()]), Decoding.WHOLE),
}


def codec(kind: str, cleans: bool) -> Tokenizer:
    made = tokenizers.Tokenizer(models.WordLevel({word: place for place, word in enumerate(WORDS)}, unk_token="b"))
    if KINDS[kind][0] is not None:
        made.decoder = KINDS[kind][0]
    made.add_special_tokens(["<s>"])
    return Tokenizer.from_bytes(made.to_str().encode(), kind, settings={"clean_up_tokenization_spaces": cleans})


CODECS = {(kind, cleans): codec(kind, cleans) for kind in KINDS for cleans in (False, True)}


def less(whole: str, prompt: str) -> str:
    """`whole` without what it has in common with `prompt` at the start."""
    same = next((place for place, (a, b) in enumerate(zip(whole, prompt)) if a != b), min(len(whole), len(prompt)))
    return whole[same:]


@settings(deadline=None, max_examples=150)
@given(st.lists(st.integers(0, SPECIAL + 1), max_size=14), st.integers(0, 14))
@pytest.mark.parametrize(("kind", "cleans"), CODECS)
def test_pieces_add_up_under_any_decoder(kind: str, cleans: bool, ids: Sequence[int], cut: int) -> None:
    made = CODECS[kind, cleans]
    prompt, rest = ids[:cut], ids[cut:]
    stream = made.stream(prompt)
    text = "".join(map(stream.push, rest)) + stream.finish()
    assert text == less(made.decode(ids), made.decode(prompt))
    assert stream.finish() == ""


@pytest.mark.parametrize("kind", KINDS)
def test_kinds_of_decoders(kind: str) -> None:
    assert CODECS[kind, False].decoding is KINDS[kind][1]
    assert not CODECS[kind, False].cleans
    assert CODECS[kind, True].cleans


def pieces(kind: str, words: Sequence[str], cleans: bool = False) -> list[str]:
    """The pieces of tokens, and what is left at the end."""
    stream = CODECS[kind, cleans].stream()
    return [*(stream.push(WORDS.index(word)) for word in words), stream.finish()]


def test_pieces_come_as_soon_as_they_are_certain() -> None:
    assert pieces("llama", ["▁a", "<0xC3>", "<0xA9>", "b", "▁a"]) == ["a", "", "", "éb", " a", ""]
    assert pieces("llama", ["▁", "▁a", "b"]) == ["", " a", "b", ""]
    assert pieces("llama", ["<0xC3>", "<0xA9>"]) == ["", "", "é"]
    assert pieces("byte-level", ["Ã", "©", "Ã", "b"]) == ["", "é", "", "\N{REPLACEMENT CHARACTER}b", ""]
    assert pieces("byte-level", ["Ã"] * 50)[2:] == ["\N{REPLACEMENT CHARACTER}"] * 49
    assert pieces("ctc", ["▁a", "##c"])[:2] == ["", ""]  # not known: at the end


def test_spaces_are_cleaned_up_across_pieces() -> None:
    assert pieces("none", ["b", "n't", ".", "b", "'"], cleans=True) == ["b", "", "", "n't. b", "", " '"]
    assert clean_up("I do n't , we 've ' it .") == "I don't, we've'it."


def test_a_generation_up_to_its_end() -> None:
    assert list(until_end([1, 2, 3, 4], {3})) == [1, 2, 3]
    assert list(until_end([1, 2], {3})) == [1, 2]


def test_a_tokenizer_is_what_its_file_says() -> None:
    """Truncation and padding apart."""
    made = tokenizers.Tokenizer(models.WordLevel({"b": 0}, unk_token="b"))
    content = json.loads(made.to_str())
    content["truncation"] = {"direction": "Right", "max_length": 1, "strategy": "LongestFirst", "stride": 0}
    made = Tokenizer.from_bytes(json.dumps(content).encode(), "x")
    assert made.encode("b") == [0]
    assert made.decode([0, 0]) == "b b"
