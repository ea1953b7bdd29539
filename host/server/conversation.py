"""Turns of the page's chat: the conversation travels with every turn, as the file that `tritape chat` writes too."""

from __future__ import annotations

import threading
from collections.abc import Generator
from contextlib import closing
from typing import Any

from tritape.base.errors import TritapeError
from tritape.host.chat import Conversation
from tritape.host.server.device import ServedDevice
from tritape.host.server.errors import Refused
from tritape.host.server.metrics import Metrics
from tritape.host.server.schema import ConversationRequest
from tritape.model.tokenizer import TextCodec


class Turns:
    """The turns under way. `stop` ends one between two pieces, and its conversation goes on from there."""

    def __init__(self, codec: TextCodec, sha256: str, metrics: Metrics) -> None:
        self._codec, self._sha256, self._metrics = codec, sha256, metrics
        self._running: dict[str, threading.Event] = {}

    def stop(self, name: str) -> bool:
        """End the turn of that id; whether there is one."""
        stopped = self._running.get(name)
        if stopped is not None:
            stopped.set()
        return stopped is not None

    def work(self, device: ServedDevice, asked: ConversationRequest, seed: int) -> Generator[dict[str, Any]]:
        """Events of a turn: text as it comes, with the number of tokens so far; at the end the conversation as a file."""
        stopped = self._running[asked.id] = threading.Event()
        talk, counted = Conversation(device, self._codec), (0, 0)
        try:
            if asked.conversation is not None:
                self._restore(device, talk, asked.conversation)
            device.settings(asked.temperature, seed)
            shown = -1
            with closing(talk.say(asked.text, asked.max_tokens)) as pieces:
                for piece in pieces:
                    counted = self._count(talk, counted)
                    shown = (len(talk.text) - len(piece) if shown < 0 else shown) + len(piece)
                    yield {"text": piece, "tokens": talk.generated_tokens}
                    if stopped.is_set():
                        break  # closing ends the chunk under way
            yield {
                "text": talk.text[shown:],
                "tokens": talk.generated_tokens,
                "finish_reason": "stop" if stopped.is_set() else talk.finish_reason,
                "conversation": talk.content(self._sha256),
            }
        finally:
            self._count(talk, counted)
            if self._running.get(asked.id) is stopped:
                del self._running[asked.id]

    def _count(self, talk: Conversation, before: tuple[int, int]) -> tuple[int, int]:
        self._metrics.prompt.inc(talk.prompt_tokens - before[0])
        self._metrics.completion.inc(talk.generated_tokens - before[1])
        return talk.prompt_tokens, talk.generated_tokens

    def _restore(self, device: ServedDevice, talk: Conversation, content: dict[str, Any]) -> None:
        try:
            talk.restore(content, self._sha256, "conversation")
        except TritapeError as error:
            device.counters()  # a device that still answers is not at fault
            raise Refused(400, str(error), "conversation") from None
