"""Bytes of every token, for who writes text without a tokenizer: a board that runs by itself, the example SoC."""

from __future__ import annotations

from collections.abc import Sequence

from tritape.base.errors import TritapeError
from tritape.model.text.stream import Decoding
from tritape.model.tokenizer import ByteTokenizer, TextCodec, Tokenizer


def token_pieces(codec: TextCodec, vocab_size: int) -> list[bytes]:
    """What each token adds to a text, so that the pieces of a text's tokens, one behind the other, are its bytes.

    Special tokens and ids that the tokenizer does not know add nothing. What depends on a text's place is not there: the space
    that some tokenizers drop at the start of a text stays, and nothing is cleaned up.

    Raises TritapeError for a tokenizer whose tokens have no text of their own (`Decoding.WHOLE`).
    """
    if isinstance(codec, ByteTokenizer):
        return [bytes([token]) if token < 256 else b"" for token in range(vocab_size)]
    assert isinstance(codec, Tokenizer)
    if codec.decoding is Decoding.WHOLE:
        raise TritapeError(
            "tokenizer must give every token a text of its own, not decode texts as a whole; use a host for this model"
        )
    if codec.decoding is Decoding.UTF8:
        return [_of_alphabet(codec.piece(token)) if codec.has_text(token) else b"" for token in range(vocab_size)]
    anchor = next(token for token in range(vocab_size) if codec.decode_plain([token]).strip().isalpha())
    return [_behind(codec, anchor, token) if codec.has_text(token) else b"" for token in range(vocab_size)]


def join_pieces(pieces: Sequence[bytes], ids: Sequence[int]) -> bytes:
    """The bytes of a text."""
    return b"".join(pieces[token] for token in ids)


def _behind(codec: Tokenizer, anchor: int, token: int) -> bytes:
    """What `token` adds behind a word."""
    if codec.is_byte(token):
        return bytes([int(codec.piece(token)[3:5], 16)])
    return codec.decode_plain([anchor, token])[len(codec.decode_plain([anchor])) :].encode()


def _alphabet() -> dict[str, int]:
    """Character of the byte-level alphabet -> byte. Source: GPT-2's `bytes_to_unicode`."""
    plain = [*range(ord("!"), ord("~") + 1), *range(ord("\xa1"), ord("\xac") + 1), *range(ord("\xae"), ord("\xff") + 1)]
    others = [byte for byte in range(256) if byte not in plain]
    return {chr(byte): byte for byte in plain} | {chr(256 + place): byte for place, byte in enumerate(others)}


_ALPHABET = _alphabet()


def _of_alphabet(piece: str) -> bytes:
    """Bytes of a token of byte-level BPE; an added token's text need not be of the alphabet."""
    if all(character in _ALPHABET for character in piece):
        return bytes(_ALPHABET[character] for character in piece)
    return piece.encode()
