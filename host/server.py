"""An HTTP server with OpenAI's completions interface in front of one device."""

from __future__ import annotations

import json
import threading
import time
import uuid
from collections.abc import Callable, Generator, Iterator
from typing import Any, Protocol

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, Response, StreamingResponse
from pydantic import BaseModel, Field
from starlette.types import Receive, Scope, Send

from tritape.base.errors import TritapeError
from tritape.host.chat import Conversation, TokenDevice
from tritape.host.protocol import inverse_temperature
from tritape.model.tokenizer import TextCodec

MAX_TOKENS = 4096
"""Most tokens of one request."""


class ServedDevice(TokenDevice, Protocol):
    """A device whose sampler can be set."""

    def settings(self, temperature: float = 0.0, seed: int = 0) -> None:
        """Set the sampler."""


class CompletionRequest(BaseModel):
    """POST /v1/completions, the fields that mean something here; others are ignored, as OpenAI's servers do.

    One prompt (text, or token ids) and one choice a request. `temperature` 0 is greedy; `seed` repeats a text.
    """

    model: str = ""
    prompt: str | list[int]
    max_tokens: int = Field(16, ge=1, le=MAX_TOKENS)
    temperature: float = Field(1.0, ge=0, le=1000)
    seed: int = Field(0, ge=0, lt=1 << 32)
    n: int = Field(1, ge=1, le=1)
    stop: str | list[str] | None = None
    stream: bool = False
    echo: bool = False


def make_app(
    device: ServedDevice,
    codec: TextCodec,
    name: str,
    *,
    vocab_size: int,
    logit_fraction: int,
    eject: Callable[[], None] | None = None,
) -> FastAPI:
    """The application. Requests take turns on the device; a client that hangs up frees it within `chat.CHUNK` tokens.

    GET /v1/models, GET /health, POST /v1/completions with and without `stream`. Errors come as OpenAI's do: status 400 for
    a wrong request, 503 for a device that does not answer; `eject` is called after the latter.
    `logit_fraction` is the tape's: it bounds the temperature.
    """
    app = FastAPI(title="tritape", docs_url=None, redoc_url=None, openapi_url=None)
    turn = threading.Lock()
    born = int(time.time())

    @app.exception_handler(RequestValidationError)
    def refused(_request: Request, error: RequestValidationError) -> Response:
        first = error.errors()[0]
        field = ".".join(str(part) for part in first["loc"][1:2]) or "body"
        return _error(400, f"{field}: {first['msg']}", field)

    @app.get("/health")
    def health() -> dict[str, str]:
        return {"status": "ok"}

    @app.get("/v1/models")
    def models() -> dict[str, Any]:
        return {"object": "list", "data": [{"id": name, "object": "model", "created": born, "owned_by": "tritape"}]}

    @app.post("/v1/completions")
    def completions(request: CompletionRequest) -> Response:
        if request.model not in ("", name):
            return _error(404, f"model must be {name}, not {request.model!r}; see /v1/models", "model")
        ids = codec.encode(request.prompt) if isinstance(request.prompt, str) else request.prompt
        if not ids or not all(0 <= token < vocab_size for token in ids):
            return _error(400, f"prompt must have tokens from 0 to {vocab_size - 1}; change it", "prompt")
        try:
            inverse_temperature(request.temperature, logit_fraction)
        except TritapeError as error:
            return _error(400, str(error), "temperature")
        answer = Completion(name, request)
        pieces = answer.pieces(device, codec, ids, turn)
        try:
            first = next(pieces)  # what is wrong shows up before the status is sent
        except TritapeError as error:
            return lost(error)
        if request.stream:
            return Events(answer.events(first, pieces, lost), pieces)
        try:
            text = first + "".join(pieces)
        except TritapeError as error:
            return lost(error)
        return JSONResponse(answer.body(text, answer.finish, usage=True))

    def lost(error: TritapeError) -> Response:
        if eject is not None:
            eject()
        return _error(503, str(error), None)

    return app


class Events(StreamingResponse):
    """Server-sent events; at the end, also when the client hangs up, `pieces` is closed and so the device is free."""

    def __init__(self, events: Iterator[str], pieces: Generator[str]) -> None:
        super().__init__(events, media_type="text/event-stream")
        self._pieces = pieces

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await super().__call__(scope, receive, send)
        finally:
            self._pieces.close()


class Completion:
    """One request under way: the pieces of its text, and the bodies that carry them."""

    def __init__(self, name: str, request: CompletionRequest) -> None:
        self._request = request
        self._frame = {
            "id": f"cmpl-{uuid.uuid4().hex}",
            "object": "text_completion",
            "created": int(time.time()),
            "model": name,
        }
        self.finish = "length"
        self._usage = {"prompt_tokens": 0, "completion_tokens": 0, "total_tokens": 0}

    def pieces(self, device: ServedDevice, codec: TextCodec, ids: list[int], turn: threading.Lock) -> Generator[str]:
        """The text, up to a stop string; holds the device meanwhile."""
        request = self._request
        stops = [request.stop] if isinstance(request.stop, str) else request.stop or []
        with turn:
            device.settings(request.temperature, request.seed)
            conversation = Conversation(device, codec)
            if request.echo:
                yield request.prompt if isinstance(request.prompt, str) else codec.decode(ids)
            held = ""  # text that may be the beginning of a stop string
            for piece in conversation.say(ids, request.max_tokens):
                held += piece
                self._count(len(ids), conversation.generated_tokens)
                ends = [at for stop in stops if stop and (at := held.find(stop)) >= 0]
                if ends:
                    self.finish = "stop"
                    yield held[: min(ends)]
                    return
                keep = max((_overlap(held, stop) for stop in stops), default=0)
                yield held[: len(held) - keep]
                held = held[len(held) - keep :]
            yield held

    def events(self, first: str, pieces: Iterator[str], lost: Callable[[TritapeError], object]) -> Iterator[str]:
        """Server-sent events: one a piece, a last one with the reason of the end, and the mark of the end. `lost` hears of a
        device that fails on the way."""
        yield self._event(self.body(first, None))
        try:
            for piece in pieces:
                if piece:
                    yield self._event(self.body(piece, None))
        except TritapeError as error:
            lost(error)
            yield self._event(_error_body(str(error), None, "server_error"))
            return
        yield self._event(self.body("", self.finish))
        yield "data: [DONE]\n\n"

    def body(self, text: str, finish: str | None, usage: bool = False) -> dict[str, Any]:
        """A `text_completion` object."""
        choice = {"text": text, "index": 0, "logprobs": None, "finish_reason": finish}
        return {**self._frame, "choices": [choice], **({"usage": self._usage} if usage else {})}

    def _count(self, prompt: int, generated: int) -> None:
        self._usage = {"prompt_tokens": prompt, "completion_tokens": generated, "total_tokens": prompt + generated}

    @staticmethod
    def _event(body: dict[str, Any]) -> str:
        return f"data: {json.dumps(body)}\n\n"


def _overlap(text: str, stop: str) -> int:
    """Characters at the end of `text` that begin `stop`."""
    return next((size for size in range(min(len(text), len(stop) - 1), 0, -1) if text.endswith(stop[:size])), 0)


def _error_body(message: str, param: str | None, kind: str) -> dict[str, Any]:
    return {"error": {"message": message, "type": kind, "param": param, "code": None}}


def _error(status: int, message: str, param: str | None) -> Response:
    kind = "invalid_request_error" if status < 500 else "server_error"
    return JSONResponse(_error_body(message, param, kind), status)
