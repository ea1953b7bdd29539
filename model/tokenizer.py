"""Text to token ids and back, and text pieces as the ids of a running generation come in."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

import tokenizers

from tritape.base.errors import TritapeError
from tritape.model.checkpoint import Checkpoint

BYTE_VOCABULARY = 256
_INCOMPLETE = "\N{REPLACEMENT CHARACTER}"


class TextCodec(Protocol):
    """What `Tokenizer` and `ByteTokenizer` have in common."""

    def encode(self, text: str) -> list[int]: ...

    def decode(self, ids: Sequence[int]) -> str: ...

    def stream(self) -> TextStream: ...


class TextStream:
    """Turns ids into text pieces as they come: only complete characters come out, and the pieces add up to `decode`.

    Each new id is decoded together with the piece before it, because decoders look at neighbours (leading spaces).
    """

    def __init__(self, codec: TextCodec) -> None:
        self._codec = codec
        self._ids: list[int] = []  # the ids of the last piece, then those not yet put out
        self._done = 0  # how many of them are put out

    def push(self, token: int) -> str:
        """The text that this id completes, often empty."""
        self._ids.append(token)
        before, text = self._codec.decode(self._ids[: self._done]), self._codec.decode(self._ids)
        if len(text) <= len(before) or text.endswith(_INCOMPLETE):
            return ""
        self._ids = self._ids[self._done :]
        self._done = len(self._ids)
        return text[len(before) :]

    def finish(self) -> str:
        """The rest: unfinished characters come out as U+FFFD. The stream is empty afterwards."""
        before, text = self._codec.decode(self._ids[: self._done]), self._codec.decode(self._ids)
        self._ids, self._done = [], 0
        return text[len(before) :]


class Tokenizer:
    """A Hugging Face tokenizer.json; special tokens are added by `encode` as the file says and dropped by `decode`."""

    def __init__(self, path: str | Path, vocab_size: int | None = None) -> None:
        """Read `path`; with `vocab_size`, every id must be below it. Raises TritapeError for a bad file."""
        if not Path(path).is_file():
            raise TritapeError(f"{path}: file must exist, not be missing; take it from the checkpoint's repository")
        self._load(Path(path).read_bytes(), str(path), vocab_size)

    @classmethod
    def from_bytes(cls, data: bytes, source: str, vocab_size: int | None = None) -> Tokenizer:
        """A tokenizer.json that a tape carries; `source` is the file that errors name."""
        tokenizer = cls.__new__(cls)
        tokenizer._load(data, source, vocab_size)
        return tokenizer

    def _load(self, data: bytes, path: str, vocab_size: int | None) -> None:
        try:
            self._tokenizer = tokenizers.Tokenizer.from_buffer(data)
        except Exception as error:  # the library raises nothing more specific
            raise TritapeError(f"{path}: file must be a tokenizer, not damaged ({error}); download it again") from None
        largest = max(self._tokenizer.get_vocab(with_added_tokens=True).values(), default=0)
        if vocab_size is not None and largest >= vocab_size:
            raise TritapeError(
                f"{path}: token ids must be below vocab_size {vocab_size}, not {largest}; "
                "use the tokenizer of this checkpoint"
            )

    def encode(self, text: str) -> list[int]:
        """Token ids of a text."""
        return self._tokenizer.encode(_encodable(text)).ids

    def decode(self, ids: Sequence[int]) -> str:
        """Text of token ids; bytes that are not UTF-8 become U+FFFD."""
        return self._tokenizer.decode([int(token) for token in ids])

    def stream(self) -> TextStream:
        """A new stream that decodes ids one by one."""
        return TextStream(self)


class ByteTokenizer:
    """One token a byte of UTF-8: for checkpoints of vocabulary 256 that come without tokenizer.json."""

    def encode(self, text: str) -> list[int]:
        """The bytes of a text."""
        return list(_encodable(text).encode())

    def decode(self, ids: Sequence[int]) -> str:
        """Text of ids from 0 to 255; bytes that are not UTF-8 become U+FFFD."""
        return bytes(int(token) for token in ids).decode(errors="replace")

    def stream(self) -> TextStream:
        """A new stream that decodes ids one by one."""
        return TextStream(self)


def load_tokenizer(checkpoint: Checkpoint) -> TextCodec:
    """The checkpoint's tokenizer.json, or bytes when it has none and its vocabulary is 256. Raises TritapeError."""
    if checkpoint.tokenizer_path is not None:
        return Tokenizer(checkpoint.tokenizer_path, checkpoint.config.vocab_size)
    if checkpoint.config.vocab_size == BYTE_VOCABULARY:
        return ByteTokenizer()
    raise TritapeError(
        f"{checkpoint.name}: tokenizer.json must be in the folder, not missing; take it from the model's repository"
    )


def _encodable(text: str) -> str:
    """`text`, unless it has lone surrogates (such as undecodable command-line bytes), which no tokenizer takes."""
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise TritapeError(
            f"text must be UTF-8, not contain {text[error.start]!r} at {error.start}; remove it"
        ) from None
    return text
