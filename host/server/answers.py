"""Bodies of answers: OpenAI's objects, whole and as chunks of a stream."""

from __future__ import annotations

import time
import uuid
from collections.abc import Iterator
from typing import Any

from tritape.host.server.writer import Piece, Scored


class Answer:
    """One request's answer under way: `add` its pieces, then take `whole`; or send `chunks` of each as they come.

    `logprobs` says whether scores are shown; `usage` whether a stream's chunks carry the usage.
    """

    object = chunk = prefix = ""

    def __init__(self, model: str, choices: int, prompt_tokens: int, *, logprobs: bool, usage: bool) -> None:
        self._model, self._logprobs, self._with_usage = model, logprobs, usage
        self._id, self._created = f"{self.prefix}-{uuid.uuid4().hex}", int(time.time())
        self._texts = [""] * choices
        self._scored: list[list[Scored]] = [[] for _ in range(choices)]
        self._finish: list[str | None] = [None] * choices
        self._prompt_tokens, self._tokens = prompt_tokens, 0

    def add(self, piece: Piece) -> None:
        """Keep a piece for `whole`."""
        self._tokens += piece.tokens
        self._texts[piece.index] += piece.text
        self._scored[piece.index] += piece.scored
        self._finish[piece.index] = piece.finish or self._finish[piece.index]

    def whole(self) -> dict[str, Any]:
        """The answer without a stream."""
        choices = [
            self._choice(index, text, scored, finish)
            for index, (text, scored, finish) in enumerate(zip(self._texts, self._scored, self._finish, strict=True))
        ]
        return {**self._frame(self.object), "choices": choices, "usage": self._usage()}

    def chunks(self, piece: Piece) -> Iterator[dict[str, Any]]:
        """Chunks of a stream that carry a piece."""
        self._tokens += piece.tokens
        if piece.text or piece.scored:
            yield self._chunk(self._delta(piece.index, piece.text, piece.scored, None))
        if piece.finish is not None:
            yield self._chunk(self._delta(piece.index, "", [], piece.finish))

    def first(self) -> Iterator[dict[str, Any]]:
        """Chunks at the begin of a stream."""
        yield from ()

    def last(self) -> Iterator[dict[str, Any]]:
        """Chunks at its end."""
        if self._with_usage:
            yield {**self._frame(self.chunk), "choices": [], "usage": self._usage()}

    def _chunk(self, choice: dict[str, Any]) -> dict[str, Any]:
        return {**self._frame(self.chunk), "choices": [choice], **({"usage": None} if self._with_usage else {})}

    def _frame(self, kind: str) -> dict[str, Any]:
        return {"id": self._id, "object": kind, "created": self._created, "model": self._model}

    def _usage(self) -> dict[str, int]:
        total = self._prompt_tokens + self._tokens
        return {"prompt_tokens": self._prompt_tokens, "completion_tokens": self._tokens, "total_tokens": total}

    def _choice(self, index: int, text: str, scored: list[Scored], finish: str | None) -> dict[str, Any]:
        raise NotImplementedError

    def _delta(self, index: int, text: str, scored: list[Scored], finish: str | None) -> dict[str, Any]:
        raise NotImplementedError


class CompletionAnswer(Answer):
    """`text_completion` objects."""

    object = chunk = "text_completion"
    prefix = "cmpl"

    def _choice(self, index: int, text: str, scored: list[Scored], finish: str | None) -> dict[str, Any]:
        logprobs = None
        if self._logprobs:
            logprobs = {
                "tokens": [one.name for one in scored],
                "token_logprobs": [one.token.logprob for one in scored],
                "top_logprobs": [dict(one.top) if one.token.logprob is not None else None for one in scored],
                "text_offset": [one.offset for one in scored],
            }
        return {"text": text, "index": index, "logprobs": logprobs, "finish_reason": finish}

    _delta = _choice


class ChatAnswer(Answer):
    """`chat.completion` objects, and chunks with what is new in each."""

    object, chunk, prefix = "chat.completion", "chat.completion.chunk", "chatcmpl"

    def first(self) -> Iterator[dict[str, Any]]:
        """Who speaks, once a choice."""
        for index in range(len(self._texts)):
            delta = {"role": "assistant", "content": ""}
            yield self._chunk({"index": index, "delta": delta, "logprobs": None, "finish_reason": None})

    def _choice(self, index: int, text: str, scored: list[Scored], finish: str | None) -> dict[str, Any]:
        message = {"role": "assistant", "content": text, "refusal": None}
        return {"index": index, "message": message, "logprobs": self._scores(scored), "finish_reason": finish}

    def _delta(self, index: int, text: str, scored: list[Scored], finish: str | None) -> dict[str, Any]:
        delta = {} if finish is not None else {"content": text}
        return {"index": index, "delta": delta, "logprobs": self._scores(scored), "finish_reason": finish}

    def _scores(self, scored: list[Scored]) -> dict[str, Any] | None:
        if not self._logprobs:
            return None
        content = [
            {
                **_score(one.name, one.token.logprob or 0.0),
                "top_logprobs": [_score(*entry) for entry in one.top[: len(one.token.top)]],
            }
            for one in scored
        ]
        return {"content": content, "refusal": None}


def _score(name: str, logprob: float) -> dict[str, Any]:
    encoded = None if name.startswith("token_id:") else list(name.encode())
    return {"token": name, "logprob": logprob, "bytes": encoded}
