"""Text to ids, back, and piece by piece."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import tokenizers
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import decoders, models, pre_tokenizers

from tritape.base.errors import TritapeError
from tritape.model.checkpoint import load_checkpoint, random_checkpoint
from tritape.model.config import ModelConfig
from tritape.model.data import default_model_path
from tritape.model.tokenizer import ByteTokenizer, Tokenizer, load_tokenizer

TINY = Path(__file__).parent / "data" / "mmfreelm-tiny"
AUSTEN = Tokenizer(default_model_path().parent / "austen-128x4" / "tokenizer.json", 512)  # spells any byte
UNICODE = st.text(st.characters(codec="utf-8"))


@settings(deadline=None)
@given(UNICODE)
@pytest.mark.parametrize("codec", [AUSTEN, ByteTokenizer()], ids=["bpe", "bytes"])
def test_round_trip_and_stream(codec: Tokenizer | ByteTokenizer, text: str) -> None:
    ids = codec.encode(text)
    assert codec.decode(ids) == text
    stream = codec.stream()
    pieces = [stream.push(token) for token in ids]
    assert "".join(pieces) + stream.finish() == text
    if "\N{REPLACEMENT CHARACTER}" not in text:
        assert "\N{REPLACEMENT CHARACTER}" not in "".join(pieces)
        assert "".join(pieces) == text  # nothing complete is held back


@settings(deadline=None)
@given(st.lists(st.integers(0, 255)))
@pytest.mark.parametrize("codec", [AUSTEN, ByteTokenizer()], ids=["bpe", "bytes"])
def test_streamed_pieces_add_up_for_any_ids(codec: Tokenizer | ByteTokenizer, ids: list[int]) -> None:
    stream = codec.stream()
    assert "".join(stream.push(token) for token in ids) + stream.finish() == codec.decode(ids)
    assert stream.finish() == ""


def test_half_characters_are_held_until_complete() -> None:
    stream = ByteTokenizer().stream()
    assert [stream.push(byte) for byte in "é!€".encode()] == ["", "é", "!", "", "", "€"]
    assert stream.push(0xE2) == ""
    assert stream.finish() == "\N{REPLACEMENT CHARACTER}"


def test_streams_keep_the_spaces_of_word_piece_decoders(tmp_path: Path) -> None:
    """SentencePiece-like decoders drop the first space of whatever they decode: pieces need their neighbours."""
    vocabulary = {"▁to": 0, "▁be": 1, "ing": 2, "▁": 3, "<s>": 4}
    source = tokenizers.Tokenizer(models.WordLevel(vocabulary, unk_token="▁"))
    source.pre_tokenizer = pre_tokenizers.Metaspace()
    source.decoder = decoders.Metaspace()
    source.add_special_tokens(["<s>"])
    source.save(str(tmp_path / "tokenizer.json"))
    codec = Tokenizer(tmp_path / "tokenizer.json")
    stream = codec.stream()
    assert [stream.push(token) for token in (0, 1, 2, 0)] == ["to", " be", "ing", " to"]
    assert stream.push(4) == ""  # special tokens have no text


def test_the_embedded_checkpoint_has_its_tokenizer() -> None:
    codec = load_tokenizer(load_checkpoint(default_model_path()))
    ids = codec.encode("It is a truth universally acknowledged")
    assert len(ids) < 25
    assert codec.decode(np.array(ids)) == "It is a truth universally acknowledged"


def test_vocabulary_256_without_a_tokenizer_is_bytes() -> None:
    assert load_tokenizer(load_checkpoint(TINY)).encode("é") == [0xC3, 0xA9]


def test_other_vocabularies_need_a_tokenizer() -> None:
    checkpoint = random_checkpoint(ModelConfig(255, 4, 1, 4), 1)
    with pytest.raises(
        TritapeError, match=r"in memory: tokenizer\.json must be in the folder, not missing; take it from"
    ):
        load_tokenizer(checkpoint)


def test_refuses_a_tokenizer_with_more_ids_than_the_model() -> None:
    with pytest.raises(
        TritapeError, match=r"tokenizer\.json: token ids must be below vocab_size 511, not 511; use the"
    ):
        Tokenizer(default_model_path() / "tokenizer.json", 511)


def test_refuses_damaged_files(tmp_path: Path) -> None:
    path = tmp_path / "tokenizer.json"
    with pytest.raises(TritapeError, match=r"tokenizer\.json: file must exist, not be missing; take it from"):
        Tokenizer(path)
    path.write_text("{}")
    with pytest.raises(
        TritapeError, match=r"tokenizer\.json: file must be a tokenizer, not damaged \(.*\); download it"
    ):
        Tokenizer(path)


@pytest.mark.parametrize("codec", [AUSTEN, ByteTokenizer()], ids=["bpe", "bytes"])
def test_refuses_lone_surrogates(codec: Tokenizer | ByteTokenizer) -> None:
    with pytest.raises(TritapeError, match=r"text must be UTF-8, not contain '\\udcff' at 1; remove it"):
        codec.encode("a\udcff")
