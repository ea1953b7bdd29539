"""Text piece by piece as the ids of a generation come in, for everything that shows text: commands, chats and the server.

Decoders look at neighbours, so the text of an id depends on the ids beside it. Each new id is decoded together with a few
before it, and only what no later id can change comes out (`Decoding`). Source: the decoders of Hugging Face `tokenizers`.
"""

from __future__ import annotations

from collections.abc import Container, Iterable, Iterator, Sequence
from enum import Enum
from itertools import takewhile
from typing import Protocol

INCOMPLETE = "\N{REPLACEMENT CHARACTER}"
_UTF8_TOKENS = 4  # a character has at most four bytes, and each token at least one
_CLEANED = (
    (" .", "."),
    (" ?", "?"),
    (" !", "!"),
    (" ,", ","),
    (" ' ", "'"),
    (" n't", "n't"),
    (" 'm", "'m"),
    (" 's", "'s"),
    (" 've", "'ve"),
    (" 're", "'re"),
)
_CLEANED_CHARACTERS = frozenset("".join(before for before, _ in _CLEANED))


class Decoding(Enum):
    """What a later token can still change of the text of the tokens so far."""

    LOCAL = "local"
    """Nothing: tokens become text one by one, given the one before."""
    UTF8 = "utf8"
    """The last character, while its bytes are not complete."""
    BYTE_RUN = "byte run"
    """A run of byte tokens at the end (`<0xE2>`): one wrong byte makes all of the run U+FFFD."""
    WHOLE = "whole"
    """Anything: such a decoder is not known, so the text comes at the end."""


class StreamCodec(Protocol):
    """What a stream needs of a tokenizer."""

    @property
    def decoding(self) -> Decoding: ...

    @property
    def cleans(self) -> bool:
        """Whether `clean_up` follows decoding."""

    def decode(self, ids: Sequence[int]) -> str: ...

    def decode_plain(self, ids: Sequence[int]) -> str:
        """`decode` without cleaning up."""

    def has_text(self, token: int) -> bool:
        """Whether decoding sees this token; special and unknown ones are dropped before."""

    def is_byte(self, token: int) -> bool:
        """Whether this is a byte token of `Decoding.BYTE_RUN`."""


def until_end(ids: Iterable[int], ends: Container[int]) -> Iterator[int]:
    """Ids of a generation up to one that ends a text, which is the last."""
    for token in ids:
        yield token
        if token in ends:
            return


def clean_up(text: str) -> str:
    """Text with the spaces that `transformers` removes where `clean_up_tokenization_spaces` is set."""
    for before, after in _CLEANED:
        text = text.replace(before, after)
    return text


class TextStream:
    """The text behind a prompt: pieces add up to `decode(prompt + ids)` less what it has in common with `decode(prompt)`.

    A piece has whole characters only, and is never taken back. An id costs a few decodings of a handful of ids, but in a run
    of byte tokens, which is held until it ends.
    """

    def __init__(self, codec: StreamCodec, prompt: Sequence[int] = ()) -> None:
        self._codec = codec
        self._ids: list[int] = []  # those not decided yet, behind a few for context
        self._done = 0  # characters of their text that have been passed on
        self._cleaning = ""  # plain text that cleaning up may still change
        self._prompt = ""  # what is left of the prompt's text
        if prompt:
            self._prompt = codec.decode(prompt)
            self._ids = [token for token in prompt if codec.has_text(token)]
            self._put_out(self._advance())

    def push(self, token: int) -> str:
        """The text that this id completes, often empty."""
        token = int(token)
        if not self._codec.has_text(token):
            return ""
        self._ids.append(token)
        return self._put_out(self._advance())

    def finish(self) -> str:
        """The rest: unfinished characters come out as U+FFFD. The stream is empty afterwards."""
        rest = self._codec.decode_plain(self._ids)[self._done :]
        self._ids, self._done = [], 0
        return self._put_out(rest, last=True)

    def _advance(self) -> str:
        """Plain text that has become certain; `_ids` keeps what the next ones need."""
        codec = self._codec
        decoding = codec.decoding
        if decoding is Decoding.WHOLE:
            return ""
        certain = len(self._ids)
        if decoding is Decoding.BYTE_RUN:
            certain -= sum(1 for _ in takewhile(codec.is_byte, reversed(self._ids)))
        text = self._certain_text(self._ids[:certain])
        piece = text[self._done :]
        if decoding is Decoding.UTF8:
            self._ids = self._ids[-_UTF8_TOKENS:]
            self._done = len(self._certain_text(self._ids))
            return piece
        # A first token that leaves no text behind would leave the removal of a leading space to the one after it.
        start = certain
        context = ""
        while start and not context:
            start -= 1
            context = codec.decode_plain(self._ids[start:certain])
        self._ids = self._ids[start:]
        self._done = len(context)
        return piece

    def _certain_text(self, ids: Sequence[int]) -> str:
        text = self._codec.decode_plain(ids)
        return text.removesuffix(INCOMPLETE) if self._codec.decoding is Decoding.UTF8 else text

    def _put_out(self, text: str, last: bool = False) -> str:
        """`text` cleaned up, as far as that is certain, less the prompt's."""
        if self._codec.cleans:
            text = self._cleaning + text
            # No pattern lies across a character that is in none of them.
            certain = len(text)
            while not last and certain and text[certain - 1] in _CLEANED_CHARACTERS:
                certain -= 1
            self._cleaning = text[certain:]
            text = clean_up(text[:certain])
        common = sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], zip(self._prompt, text)))
        differs = common < min(len(self._prompt), len(text))
        self._prompt = "" if differs else self._prompt[common:]
        return text[common:]
