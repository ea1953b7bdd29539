"""Text to ids, back, and piece by piece."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
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
from tritape.model.data import default_model_path, embedded_models
from tritape.model.formats import quantise_model
from tritape.model.tape.assembler import pack
from tritape.model.tape.container import read_tape
from tritape.model.tokenizer import (
    ByteTokenizer,
    Tokenizer,
    load_tokenizer,
    tape_text,
    tape_tokenizer,
    without_ends,
)

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
    stream = codec.stream([4, 0])
    assert [stream.push(token) for token in (1, 4, 2)] == [" be", "", "ing"]  # the prompt's neighbour counts too


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


def test_ids_beyond_the_embedding_are_refused_when_a_text_needs_them() -> None:
    codec = Tokenizer(default_model_path() / "tokenizer.json", 511)
    last = Tokenizer(default_model_path() / "tokenizer.json").decode([511])
    assert codec.encode("Emma was")
    assert codec.decode([511]) == last
    with pytest.raises(
        TritapeError,
        match=r"tokenizer\.json: token ids of a text must be below vocab_size 511, not 511 \(.*\); leave it",
    ):
        codec.encode(last)


def test_refuses_damaged_files(tmp_path: Path) -> None:
    path = tmp_path / "tokenizer.json"
    with pytest.raises(TritapeError, match=r"tokenizer\.json: file must exist, not be missing; take it from"):
        Tokenizer(path)
    path.write_text("version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n")
    with pytest.raises(TritapeError, match=r"must be a tokenizer, not a pointer of Git LFS; run: git lfs pull in"):
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


def test_ends_of_a_text(tmp_path: Path) -> None:
    """As config.json, a list or one id, and generation_config.json say; else as the tokenizer does."""
    shutil.copytree(default_model_path(), tmp_path, dirs_exist_ok=True)
    config = json.loads((tmp_path / "config.json").read_text())

    def ends(value: object) -> frozenset[int]:
        (tmp_path / "config.json").write_text(json.dumps(config | {"eos_token_id": value}))
        return load_tokenizer(load_checkpoint(tmp_path)).eos_ids

    (tmp_path / "tokenizer_config.json").write_text(json.dumps({"eos_token": {"content": "!"}}))
    assert ends(None) == {0}
    assert ends(5) == {5}
    assert ends([5, 3]) == {3, 5}
    (tmp_path / "generation_config.json").write_text(json.dumps({"eos_token_id": [7, 512]}))
    assert ends(5) == {5, 7}  # the model has no 512
    (tmp_path / "generation_config.json").write_text(json.dumps({"eos_token_id": "</s>"}))
    with pytest.raises(
        TritapeError, match=r"generation_config\.json: eos_token_id must be null, an id or a list of ids, not '"
    ):
        ends(5)
    (tmp_path / "generation_config.json").write_text("{")
    with pytest.raises(TritapeError, match=r"generation_config\.json: file must be JSON, not damaged text; download"):
        ends(5)


def test_a_tape_carries_what_a_tokenizer_needs(tmp_path: Path) -> None:
    """Ends, settings and the template come with the tape, and both give the same codec."""
    folder = tmp_path / "model"
    shutil.copytree(embedded_models()["nano"], folder)
    settings = {"clean_up_tokenization_spaces": True, "bos_token": "!", "eos_token": '"'}
    (folder / "tokenizer_config.json").write_text(json.dumps(settings))
    (folder / "chat_template.jinja").write_text("{{ messages }}")
    (folder / "generation_config.json").write_text(json.dumps({"eos_token_id": [3, 4]}))
    checkpoint = load_checkpoint(folder)
    text = tape_text(checkpoint)
    pack(quantise_model(checkpoint), tmp_path / "nano.tape", 4, tokenizer=text.tokenizer, text=text.metadata)
    carried = tape_tokenizer(read_tape(tmp_path / "nano.tape"), "nano.tape")
    assert carried.settings == settings | {"chat_template": "{{ messages }}"}
    assert carried.eos_ids == load_tokenizer(checkpoint).eos_ids == {3, 4}
    assert carried.encode("!Emma") == load_tokenizer(checkpoint).encode("!Emma")
    assert carried.decode([0]) == ""  # a special token by its settings alone
    tape = read_tape(tmp_path / "nano.tape")
    for entry, value, message in (
        ("eos_ids", "3", "nano.tape: eos_ids must be null, an id or a list of ids, not '3'; correct it"),
        ("tokenizer_config", [], "nano.tape: tokenizer_config of the metadata must be a JSON object, not list; pack"),
        ("tokenizer_config", {"added_tokens_decoder": 3}, r"nano.tape: file must be a tokenizer, not damaged \("),
    ):
        with pytest.raises(TritapeError, match=message):
            tape_tokenizer(replace(tape, metadata=tape.metadata | {entry: value}), "nano.tape")
    plain = embedded_models()["nano"]
    assert tape_text(load_checkpoint(plain)).metadata == {}  # and a plain model's tape is what it was


def test_what_a_tape_cannot_run_is_refused_when_it_is_packed(tmp_path: Path) -> None:
    checkpoint = random_checkpoint(ModelConfig(255, 4, 1, 4), 1)
    with pytest.raises(
        TritapeError, match=r"in memory: tokenizer\.json must be in the folder, not missing; take it from"
    ):
        tape_text(checkpoint)
    with pytest.raises(
        TritapeError, match="vocab_size must be at most 65536, not 65537; such a model is not supported"
    ):
        tape_text(random_checkpoint(ModelConfig(65537, 1, 1, 1), 1))


def test_a_codec_for_texts_that_no_token_ends() -> None:
    codec = ByteTokenizer([3])
    assert without_ends(codec).eos_ids == frozenset()
    assert without_ends(codec).encode("a") == codec.encode("a")
    assert codec.eos_ids == {3}
