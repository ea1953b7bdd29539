"""Tokens of one choice into text: whole characters, up to an end token or a stop string."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from tritape.host.server.sequence import Token
from tritape.model.tokenizer import TextCodec


@dataclass(frozen=True)
class Scored:
    """A token with log-probabilities, its name, and where its text begins in the choice's."""

    token: Token
    name: str
    offset: int
    top: tuple[tuple[str, float], ...]
    """Names of the most likely tokens in its place, each once."""


@dataclass
class Piece:
    """What has become certain of a choice: text, scored tokens, and at the end why it ends."""

    index: int
    text: str = ""
    scored: list[Scored] = field(default_factory=list)
    finish: str | None = None
    tokens: int = 0
    """Generated for it."""


class Names:
    """Names of single tokens: their text between others, or `token_id:N` where that is not whole characters."""

    def __init__(self, codec: TextCodec) -> None:
        self._codec = codec
        self._context = codec.encode("a", special=False)[-1:]

    def name(self, token: int) -> str:
        """The name of a token."""
        stream = self._codec.stream(self._context)
        text = stream.push(token)
        return text if text and not stream.finish() else f"token_id:{token}"

    def scored(self, token: Token, offset: int) -> Scored:
        """A token with names."""
        name = self.name(token.id)
        top: dict[str, float] = {}
        for other, logprob in token.top:
            called = self.name(other)
            top[f"token_id:{other}" if called in top else called] = logprob
        if token.logprob is not None:
            top.setdefault(name, token.logprob)
        return Scored(token, name, offset, tuple(top.items()))


class Writer:
    """The text of a choice behind a prompt; `push` its tokens until `finish` says why it ends, else `end` it.

    `offset` is the length of the text that stands before it in the choice. With `scores`, tokens come with names, each with
    the text that it begins: an end token too, at the end, but none of a stop string.
    """

    def __init__(
        self,
        codec: TextCodec,
        prompt: Sequence[int],
        stops: Sequence[str],
        index: int,
        *,
        offset: int = 0,
        scores: Names | None = None,
    ) -> None:
        self._ends, self._stops, self._index, self._names = codec.eos_ids, stops, index, scores
        self._stream = codec.stream(prompt)
        self._held = ""  # text that may be the beginning of a stop string
        self._out = offset  # length of what has come out
        self._scored: list[Scored] = []  # with the held text
        self.finish: str | None = None

    def push(self, token: Token) -> Piece:
        """What this token makes certain."""
        if token.id in self._ends:
            self.finish = "stop"
            text = self._held + self._stream.finish()
            if self._names is not None:
                self._scored.append(self._names.scored(token, self._out + len(text)))
            return self._piece(self._cut(text), tokens=1)
        offset = self._out + len(self._held)
        self._held += self._stream.push(token.id)
        if self._names is not None:
            self._scored.append(self._names.scored(token, offset))
        text = self._cut(self._held)
        if self.finish is None:
            keep = max((_overlap(text, stop) for stop in self._stops), default=0)
            text = text[: len(text) - keep]
        return self._piece(text, tokens=1)

    def end(self) -> Piece:
        """The rest, where no token is to come."""
        text = self._cut(self._held + self._stream.finish())
        if self.finish is None:
            self.finish = "length"
        return self._piece(text)

    def _cut(self, text: str) -> str:
        """`text` up to the first stop string, which ends the choice."""
        places = [at for stop in self._stops if (at := text.find(stop)) >= 0]
        if not places:
            return text
        self.finish, self._held = "stop", ""
        self._scored = [one for one in self._scored if one.offset < self._out + min(places)]
        return text[: min(places)]

    def _piece(self, text: str, tokens: int = 0) -> Piece:
        self._out += len(text)
        self._held = self._held[len(text) :]
        ready = len(self._scored)
        if self.finish is None:
            ready = sum(one.offset < self._out for one in self._scored)
        scored, self._scored = self._scored[:ready], self._scored[ready:]
        return Piece(self._index, text, scored, self.finish, tokens)


def _overlap(text: str, stop: str) -> int:
    """Characters at the end of `text` that begin `stop`."""
    return next((size for size in range(min(len(text), len(stop) - 1), 0, -1) if text.endswith(stop[:size])), 0)
