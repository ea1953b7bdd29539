"""Five kinds of tokenizers against `transformers` itself: ids, texts and streams of 2,000 strings and id sequences each."""

from __future__ import annotations

import json
import os
import random
from collections.abc import Iterator
from typing import Any

import pytest
import tokenizers
from tokenizers import decoders, models, normalizers, pre_tokenizers, processors, trainers

from tritape.model.data import default_model_path
from tritape.model.pieces import join_pieces, token_pieces
from tritape.model.text.stream import INCOMPLETE
from tritape.model.tokenizer import Tokenizer

os.environ["HF_HUB_OFFLINE"] = "1"
transformers = pytest.importorskip("transformers", reason="needs the extra text")

CASES = 2000
VOCABULARY = 400
TEXT = (default_model_path() / "heldout.txt").read_text()
SPECIAL = ["<unk>", "<s>", "</s>", "<pad>"]
BYTES = [f"<0x{byte:02X}>" for byte in range(256)]
BOS = processors.TemplateProcessing(single="<s> $A", pair="<s> $A $B", special_tokens=[("<s>", 1)])
LLAMA_DECODER = [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
ALPHABET = "abcdef XYZ  .,!?'\n\t▁éßñ€漢字🙂👩‍👩‍👧\u0301\ufffd\u200b<>s/"


def byte_level() -> tokenizers.Tokenizer:
    made = tokenizers.Tokenizer(models.BPE())
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    made.decoder = decoders.ByteLevel()
    made.train_from_iterator(
        TEXT.splitlines(),
        trainers.BpeTrainer(
            vocab_size=VOCABULARY,
            special_tokens=SPECIAL,
            initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
            show_progress=False,
        ),
    )
    return made


def sentence_piece() -> tokenizers.Tokenizer:
    """As Llama and Mistral: BPE over words with `▁`, bytes for the characters that it lacks."""
    made = tokenizers.Tokenizer(models.BPE(unk_token="<unk>", byte_fallback=True, fuse_unk=True))
    made.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    made.train_from_iterator(
        TEXT.splitlines(),
        trainers.BpeTrainer(
            vocab_size=VOCABULARY + 256, special_tokens=SPECIAL + BYTES, limit_alphabet=70, show_progress=False
        ),
    )
    content = json.loads(made.to_str())  # the trainer took the bytes for special tokens
    content["added_tokens"] = [token for token in content["added_tokens"] if token["content"] in SPECIAL]
    made = tokenizers.Tokenizer.from_str(json.dumps(content))
    made.decoder = decoders.Sequence(LLAMA_DECODER)
    made.post_processor = BOS
    return made


def metaspace() -> tokenizers.Tokenizer:
    made = tokenizers.Tokenizer(models.Unigram())
    made.pre_tokenizer = pre_tokenizers.Metaspace()
    made.decoder = decoders.Metaspace()
    return _unigram(made)


def unigram() -> tokenizers.Tokenizer:
    """As T5: normalised, with EOS behind a text."""
    made = tokenizers.Tokenizer(models.Unigram())
    made.normalizer = normalizers.Sequence([normalizers.NFKC(), normalizers.Replace(tokenizers.Regex(" {2,}"), " ")])
    made.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.WhitespaceSplit(), pre_tokenizers.Metaspace(prepend_scheme="always")]
    )
    made.decoder = decoders.Sequence([decoders.ByteFallback(), decoders.Metaspace()])
    made = _unigram(made)
    made.post_processor = processors.TemplateProcessing(
        single="$A </s>", pair="$A $B </s>", special_tokens=[("</s>", 2)]
    )
    return made


def _unigram(made: tokenizers.Tokenizer) -> tokenizers.Tokenizer:
    made.train_from_iterator(
        TEXT.splitlines(),
        trainers.UnigramTrainer(vocab_size=VOCABULARY, special_tokens=SPECIAL, unk_token="<unk>", show_progress=False),
    )
    return made


def word_piece() -> tokenizers.Tokenizer:
    made = tokenizers.Tokenizer(models.WordPiece(unk_token="<unk>"))
    made.normalizer = normalizers.BertNormalizer(lowercase=True)
    made.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    made.decoder = decoders.WordPiece(cleanup=False)
    made.train_from_iterator(
        TEXT.splitlines(),
        trainers.WordPieceTrainer(vocab_size=VOCABULARY, special_tokens=SPECIAL, show_progress=False),
    )
    return made


NAMES = {"bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>"}
KINDS: dict[str, tuple[Any, dict[str, Any]]] = {
    "byte-level": (byte_level, {"tokenizer_class": "PreTrainedTokenizerFast", "clean_up_tokenization_spaces": True}),
    "sentencepiece": (sentence_piece, {"tokenizer_class": "PreTrainedTokenizerFast"}),
    "llama": (sentence_piece, {"tokenizer_class": "LlamaTokenizer", "add_bos_token": True, "legacy": False}),
    "llama-legacy": (sentence_piece, {"tokenizer_class": "LlamaTokenizerFast", "legacy": True, "pad_token": "[PAD]"}),
    "metaspace": (metaspace, {"tokenizer_class": "PreTrainedTokenizerFast", "add_bos_token": True}),
    "unigram": (unigram, {"additional_special_tokens": ["<extra>", ","], "clean_up_tokenization_spaces": True}),
    "word-piece": (word_piece, {"clean_up_tokenization_spaces": True, "mask_token": "[MASK]"}),
    "word-piece-plain": (word_piece, {"clean_up_tokenization_spaces": False, "split_special_tokens": True}),
}


@pytest.fixture(scope="module", params=KINDS)
def pair(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[Tokenizer, Any]:
    """Ours, and that of `transformers`, of one folder."""
    folder = tmp_path_factory.mktemp(request.param)
    make, settings = KINDS[request.param]
    made = make()
    made.enable_truncation(8)
    made.enable_padding(length=12, pad_token="<pad>", pad_id=3)
    made.save(str(folder / "tokenizer.json"))
    (folder / "config.json").write_text(json.dumps({"model_type": "hgrn_bit"}))
    (folder / "tokenizer_config.json").write_text(json.dumps(NAMES | settings))
    return Tokenizer(folder / "tokenizer.json"), transformers.AutoTokenizer.from_pretrained(folder)


def strings(rng: random.Random) -> Iterator[str]:
    for number in range(CASES):
        if number % 2:
            start = rng.randrange(len(TEXT) - 80)
            yield rng.choice(["", " ", "  "]) + TEXT[start : start + rng.randrange(80)]
        else:
            parts = [*ALPHABET, *SPECIAL, "[PAD]", "do n't", " ' ", "<0x41>", chr(rng.randrange(0x20, 0xD7FF))]
            yield "".join(rng.choices(parts, k=rng.randrange(24)))


def sequences(rng: random.Random, size: int, theirs: Any) -> Iterator[list[int]]:
    """Ids of texts, any ids, and ids from a few neighbours such as bytes, which often spell nothing."""
    source = strings(rng)
    for number in range(CASES):
        if number % 3 == 0:
            yield theirs(next(source)).input_ids
        else:
            first, last = (0, size) if number % 3 == 1 else (lambda at: (at, at + 40))(rng.randrange(size - 40))
            yield [rng.randrange(first, last) for _ in range(rng.randrange(40))]


def common(one: str, other: str) -> int:
    """Characters that two texts have in common at the start."""
    return next((place for place, (a, b) in enumerate(zip(one, other)) if a != b), min(len(one), len(other)))


def test_ids_equal(pair: tuple[Tokenizer, Any]) -> None:
    ours, theirs = pair
    for text in strings(random.Random(1)):
        assert ours.encode(text) == theirs(text).input_ids, text
        assert ours.encode(text, special=False) == theirs(text, add_special_tokens=False).input_ids, text


def test_texts_and_streams_equal(pair: tuple[Tokenizer, Any]) -> None:
    ours, theirs = pair
    rng = random.Random(2)
    behind = 0
    for ids in sequences(rng, len(theirs), theirs):
        whole = theirs.decode(ids, skip_special_tokens=True)
        assert ours.decode(ids) == whole, ids
        for cut in (0, rng.randrange(len(ids) + 1)):
            prompt = theirs.decode(ids[:cut], skip_special_tokens=True)
            stream = ours.stream(ids[:cut])
            pieces = [stream.push(token) for token in ids[cut:]]
            rest = stream.finish()
            text = "".join(pieces) + rest
            assert text == whole[common(prompt, whole) :], (ids, cut)
            behind += bool(rest)
            assert len(rest) <= 60 or "\N{REPLACEMENT CHARACTER}" in text or "漢" in text, (
                rest
            )  # nothing is held for long
    assert behind < CASES  # most texts have been put out before the end
    assert stream.finish() == ""


def test_pieces_add_up_to_the_text(pair: tuple[Tokenizer, Any]) -> None:
    """Behind a word, the bytes of tokens one by one are those of the text, where the text says all of them."""
    ours, theirs = pair
    pieces = token_pieces(ours, len(theirs))
    word = next(token for token, piece in enumerate(pieces) if piece.strip().isalpha())
    compared = 0
    for ids in sequences(random.Random(3), len(theirs), theirs):
        whole = ours.decode_plain([word, *ids])
        if INCOMPLETE in whole:
            continue
        assert ours.decode_plain([word]).encode() + join_pieces(pieces, ids) == whole.encode(), ids
        compared += 1
    assert compared > CASES / 4
