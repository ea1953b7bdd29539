"""Text to token ids and back, for every model that takes text: tokenizer.json, or bytes where a small model has none."""

from __future__ import annotations

import copy
import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from tritape.base.errors import TritapeError
from tritape.model.checkpoint import Checkpoint
from tritape.model.config import ModelConfig
from tritape.model.tape.container import TapeFile
from tritape.model.text.settings import Settings, cleans_up, end_ids, make_tokenizer, read_settings, token_text
from tritape.model.text.stream import Decoding, StreamCodec, TextStream, clean_up

BYTE_VOCABULARY = 256
MAX_VOCABULARY = 1 << 16
"""Ids of the link between host and fabric."""
_BYTE_TOKEN = re.compile(r"<0x[0-9A-Fa-f]{2}>")


class TextCodec(StreamCodec, Protocol):
    """What `Tokenizer` and `ByteTokenizer` have in common.

    settings: tokenizer_config.json, with `chat_template` where there is one; eos_ids: the ids that end a text.
    """

    @property
    def settings(self) -> Settings: ...

    @property
    def eos_ids(self) -> frozenset[int]: ...

    def encode(self, text: str, special: bool = True) -> list[int]:
        """Ids of a text; `special`: with the tokens, such as BOS, that the tokenizer puts around a whole text."""

    def stream(self, prompt: Sequence[int] = ()) -> TextStream:
        """A new stream for the ids that follow a prompt."""


class Tokenizer:
    """A Hugging Face tokenizer.json with the settings beside it: ids and texts equal those of `transformers`.

    `encode` adds the special tokens that the file says, `decode` drops all special tokens. Truncation and padding of the file are
    ignored. Ids from `vocab_size` on, which the model's embedding lacks, are refused when a text needs one.
    """

    def __init__(self, path: str | Path, vocab_size: int | None = None, eos_ids: Sequence[int] = ()) -> None:
        """Read `path` and its relatives. Raises TritapeError for a bad file."""
        path = Path(path)
        if not path.is_file():
            raise TritapeError(f"{path}: file must exist, not be missing; take it from the checkpoint's repository")
        self._load(path.read_bytes(), str(path), vocab_size, read_settings(path.parent), eos_ids)

    @classmethod
    def from_bytes(
        cls,
        data: bytes,
        source: str,
        vocab_size: int | None = None,
        settings: Settings | None = None,
        eos_ids: Sequence[int] = (),
    ) -> Tokenizer:
        """A tokenizer.json that a tape carries; `source` is the file that errors name."""
        tokenizer = cls.__new__(cls)
        tokenizer._load(data, source, vocab_size, settings or {}, eos_ids)
        return tokenizer

    def _load(
        self, data: bytes, source: str, vocab_size: int | None, settings: Settings, eos_ids: Sequence[int]
    ) -> None:
        if data.startswith(b"version https://git-lfs"):
            raise TritapeError(
                f"{source}: file must be a tokenizer, not a pointer of Git LFS; run: git lfs pull in its folder"
            )
        try:
            self._tokenizer = make_tokenizer(data, settings)
        except Exception as error:  # the library raises nothing more specific
            raise TritapeError(
                f"{source}: file must be a tokenizer, not damaged ({error}); download it again"
            ) from None
        self._source, self._vocab_size = source, vocab_size
        self.settings = settings
        self.decoding = _decoding(self._tokenizer.decoder)
        self.cleans = cleans_up(self._tokenizer, settings)
        added = self._tokenizer.get_added_tokens_decoder()
        self._special = frozenset(token for token, entry in added.items() if entry.special)
        ends = frozenset(eos_ids)
        if not ends and (text := token_text(settings, "eos_token")) is not None:
            end = self._tokenizer.token_to_id(text)
            ends = frozenset() if end is None else frozenset([end])
        self.eos_ids: frozenset[int] = ends

    def encode(self, text: str, special: bool = True) -> list[int]:
        """Token ids of a text. Raises TritapeError for one that is not in the model's embedding."""
        ids: list[int] = self._tokenizer.encode(_encodable(text), add_special_tokens=special).ids
        if self._vocab_size is not None and ids and max(ids) >= self._vocab_size:
            token = next(token for token in ids if token >= self._vocab_size)
            raise TritapeError(
                f"{self._source}: token ids of a text must be below vocab_size {self._vocab_size}, not {token} "
                f"({self._tokenizer.id_to_token(token)!r}); leave it out, or use the tokenizer of this checkpoint"
            )
        return ids

    def decode(self, ids: Sequence[int]) -> str:
        """Text of token ids; bytes that are not UTF-8 become U+FFFD."""
        text = self.decode_plain(ids)
        return clean_up(text) if self.cleans else text

    def decode_plain(self, ids: Sequence[int]) -> str:
        """`decode` without cleaning up."""
        return self._tokenizer.decode([int(token) for token in ids])

    def has_text(self, token: int) -> bool:
        """Whether decoding sees this token; special and unknown ones are dropped before."""
        return token not in self._special and bool(self._tokenizer.id_to_token(token))

    def is_byte(self, token: int) -> bool:
        """Whether this is a byte token such as `<0xE2>`."""
        return _BYTE_TOKEN.fullmatch(self._tokenizer.id_to_token(token) or "") is not None

    def piece(self, token: int) -> str:
        """A token as the vocabulary writes it, such as `Ġthe`; empty for an unknown one."""
        return self._tokenizer.id_to_token(token) or ""

    def stream(self, prompt: Sequence[int] = ()) -> TextStream:
        """A new stream for the ids that follow a prompt."""
        return TextStream(self, prompt)


class ByteTokenizer:
    """One token a byte of UTF-8: for checkpoints of vocabulary 256 that come without tokenizer.json."""

    decoding = Decoding.UTF8
    cleans = False

    def __init__(self, eos_ids: Sequence[int] = ()) -> None:
        self.settings: Settings = {}
        self.eos_ids = frozenset(eos_ids)

    def encode(self, text: str, special: bool = True) -> list[int]:
        """The bytes of a text; there are no special tokens."""
        return list(_encodable(text).encode())

    def decode(self, ids: Sequence[int]) -> str:
        """Text of ids from 0 to 255; bytes that are not UTF-8 become U+FFFD."""
        return bytes(int(token) for token in ids).decode(errors="replace")

    decode_plain = decode

    def has_text(self, token: int) -> bool:
        """All do."""
        return True

    def is_byte(self, token: int) -> bool:
        """`Decoding.UTF8` needs no byte tokens."""
        return False

    def stream(self, prompt: Sequence[int] = ()) -> TextStream:
        """A new stream for the ids that follow a prompt."""
        return TextStream(self, prompt)


def load_tokenizer(checkpoint: Checkpoint) -> TextCodec:
    """The checkpoint's tokenizer.json, or bytes when it has none and its vocabulary is 256. Raises TritapeError."""
    config = checkpoint.config
    ends = end_ids(config.eos_token_id, checkpoint.path, config.vocab_size, "config.json: eos_token_id")
    if checkpoint.tokenizer_path is not None:
        return Tokenizer(checkpoint.tokenizer_path, checkpoint.config.vocab_size, ends)
    if checkpoint.config.vocab_size == BYTE_VOCABULARY:
        return ByteTokenizer(ends)
    raise TritapeError(
        f"{checkpoint.name}: tokenizer.json must be in the folder, not missing; take it from the model's repository"
    )


def without_ends(codec: TextCodec) -> TextCodec:
    """The same codec for texts that no token ends."""
    other = copy.copy(codec)
    other.eos_ids = frozenset()  # type: ignore[misc]
    return other


@dataclass(frozen=True)
class TapeText:
    """What a tape carries so that it can take text: the bytes of tokenizer.json, maybe none, and entries of its metadata."""

    tokenizer: bytes
    metadata: dict[str, Any]


def tape_text(checkpoint: Checkpoint) -> TapeText:
    """The text part of a checkpoint's tape: ends of a text as `eos_ids`, settings as `tokenizer_config`.

    Raises TritapeError for what no tape can run: no tokenizer or a damaged one, more tokens than the link has ids for.
    """
    vocab_size = checkpoint.config.vocab_size
    if vocab_size > MAX_VOCABULARY:
        raise TritapeError(
            f"{checkpoint.name}: vocab_size must be at most {MAX_VOCABULARY}, not {vocab_size}; such a model is not supported"
        )
    codec = load_tokenizer(checkpoint)
    path = checkpoint.tokenizer_path
    metadata: dict[str, Any] = {}
    if codec.settings:
        metadata["tokenizer_config"] = dict(codec.settings)
    if codec.eos_ids:
        metadata["eos_ids"] = sorted(codec.eos_ids)
    return TapeText(b"" if path is None else path.read_bytes(), metadata)


def tape_tokenizer(tape: TapeFile, source: str) -> TextCodec:
    """The tokenizer of a tape, or bytes when its vocabulary is 256. Raises TritapeError for a tape without one."""
    config = ModelConfig.from_dict(tape.metadata["config"], source)
    # Tapes of before there were these entries have neither.
    ends = end_ids(tape.metadata.get("eos_ids", config.eos_token_id), None, config.vocab_size, f"{source}: eos_ids")
    settings = tape.metadata.get("tokenizer_config", {})
    if not isinstance(settings, dict):
        raise TritapeError(
            f"{source}: tokenizer_config of the metadata must be a JSON object, not {type(settings).__name__}; "
            "pack the model again"
        )
    if tape.tokenizer:
        return Tokenizer.from_bytes(tape.tokenizer, source, config.vocab_size, settings, ends)
    if config.vocab_size == BYTE_VOCABULARY:
        return ByteTokenizer(ends)
    raise TritapeError(f"{source}: tape must hold a tokenizer, not none; pack it from a folder with tokenizer.json")


def _encodable(text: str) -> str:
    """`text`, unless it has lone surrogates (such as undecodable command-line bytes), which no tokenizer takes."""
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise TritapeError(
            f"text must be UTF-8, not contain {text[error.start]!r} at {error.start}; remove it"
        ) from None
    return text


def _decoding(decoder: Any) -> Decoding:
    """What later tokens can change under a decoder of the `tokenizers` library; None puts spaces between tokens."""
    if decoder is None:
        return Decoding.LOCAL
    parts = [json.loads(decoder.__getstate__())]
    while any(part["type"] == "Sequence" for part in parts):
        parts = [inner for part in parts for inner in (part["decoders"] if part["type"] == "Sequence" else [part])]
    kinds = [part["type"] for part in parts]
    if kinds == ["ByteLevel"]:
        return Decoding.UTF8
    fused = kinds.index("Fuse") if "Fuse" in kinds else len(kinds)
    for place, part in enumerate(parts):
        if place < fused:
            known = part["type"] in ("Replace", "ByteFallback", "Strip", "Metaspace", "WordPiece", "BPEDecoder")
        else:  # all text in one: single characters only
            known = part["type"] in ("Fuse", "Strip") or (
                part["type"] == "Replace" and len(part["pattern"].get("String", "")) == 1
            )
        if not known:
            return Decoding.WHOLE
    return Decoding.BYTE_RUN if "ByteFallback" in kinds else Decoding.LOCAL
