"""Byte-level BPE vocabularies over printable ASCII, as small as 128 ids.

The alphabet is the 95 printable ASCII characters and the line feed, not all 256 bytes: in a vocabulary of 512 the other
160 bytes would be a third of all ids, rows of the embedding and of the LM head that no text ever uses. What the
alphabet lacks is replaced before encoding, by the file's own normaliser: typographic quotes and dashes by their
ASCII forms, accented letters by plain ones, anything else by `?`. On ASCII text decoding inverts encoding.

Texts of which that would take more than a thousandth, such as those of another script, get all 256 bytes and no
normaliser instead: decoding then inverts encoding on every text, and the vocabulary must have 256 ids at least.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import numpy as np
import tokenizers
from tokenizers import decoders, models, normalizers, pre_tokenizers, trainers

from tritape.base.errors import TritapeError
from tritape.base.files import replacing

ALPHABET = "\n" + "".join(map(chr, range(32, 127)))
"""Every character that a text can have after normalisation."""
MIN_VOCABULARY = 128
_BYTE_SYMBOLS = {" ": "Ġ", "\n": "Ċ"}  # how byte-level BPE spells the two that are no printable symbol
MAX_LOST = 0.001
"""Share of characters that the small alphabet may turn into others."""
_FOLDED = (("“", '"'), ("”", '"'), ("‘", "'"), ("’", "'"), ("—", "--"), ("–", "-"), ("…", "..."), ("\t", " "))


def train_tokenizer(texts: list[str], vocabulary: int) -> tokenizers.Tokenizer:
    """A byte-level BPE tokenizer of exactly `vocabulary` ids, the same for the same texts.

    Raises TritapeError when the vocabulary is too small for the alphabet or larger than the texts can fill.
    """
    tokenizer = _trained(texts, vocabulary)
    if tokenizer.get_vocab_size() != vocabulary:
        raise TritapeError(
            f"texts must fill a vocabulary of {vocabulary}, not {tokenizer.get_vocab_size()}; give more text"
        )
    return tokenizer


def filled(texts: list[str], vocabulary: int) -> int:
    """How many of so many ids the texts fill. Raises TritapeError when they are too few for the alphabet."""
    return _trained(texts, vocabulary).get_vocab_size()


def _trained(texts: list[str], vocabulary: int) -> tokenizers.Tokenizer:
    if vocabulary < MIN_VOCABULARY:
        raise TritapeError(f"vocabulary must be at least {MIN_VOCABULARY}, not {vocabulary}; choose a larger one")
    alphabet = [_BYTE_SYMBOLS.get(character, character) for character in ALPHABET]
    tokenizer = tokenizers.Tokenizer(models.BPE())
    if needs_bytes(texts):
        alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
        if vocabulary < len(alphabet):
            raise TritapeError(
                f"vocabulary must be at least {len(alphabet)} for texts beyond ASCII, not {vocabulary}; choose a larger one"
            )
    else:
        steps: list[normalizers.Normalizer] = [normalizers.Replace(fancy, plain) for fancy, plain in _FOLDED]
        steps += [normalizers.NFKD(), normalizers.StripAccents()]
        steps += [normalizers.Replace(tokenizers.Regex("[^\\n -~]"), "?")]
        tokenizer.normalizer = normalizers.Sequence(steps)
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocabulary,
        initial_alphabet=alphabet,
        show_progress=False,
    )
    tokenizer.train_from_iterator((line for text in texts for line in text.splitlines(keepends=True)), trainer)
    return tokenizer


def needs_bytes(texts: list[str]) -> bool:
    """Whether the small alphabet would change more than `MAX_LOST` of the characters, typographic signs aside."""
    kept = {ord(character) for character in ALPHABET} | {ord(fancy) for fancy, _ in _FOLDED}
    lost = sum(len(text) - sum(text.count(chr(code)) for code in kept) for text in texts)
    return lost > MAX_LOST * sum(map(len, texts))


def save_tokenizer(tokenizer: tokenizers.Tokenizer, path: Path) -> None:
    """Write tokenizer.json, whole or not at all."""
    with replacing(path) as stream:
        stream.write((json.dumps(json.loads(tokenizer.to_str()), ensure_ascii=False, indent=1) + "\n").encode())


def encode_cached(tokenizer_file: Path, text: str, cache: Path) -> np.ndarray:
    """Ids of a text as uint16, from `cache` when this text was encoded with this tokenizer before."""
    key = hashlib.sha256(tokenizer_file.read_bytes() + b"\0" + text.encode()).hexdigest()[:20]
    path = cache / f"ids-{key}.npy"
    if not path.exists():
        cache.mkdir(parents=True, exist_ok=True)
        tokenizer = tokenizers.Tokenizer.from_file(str(tokenizer_file))
        lines = tokenizer.encode_batch([line + "\n" for line in text.removesuffix("\n").split("\n")])
        ids = np.fromiter((token for line in lines for token in line.ids), np.uint16)
        with replacing(path) as stream:
            np.save(stream, ids)
    return np.load(path)
