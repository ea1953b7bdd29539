"""One request and its answer: pieces of work into a body or a stream, and the work's end when the client gives up."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import AsyncIterator, Callable, Iterable
from typing import Any

from fastapi import Request
from starlette.responses import Response, StreamingResponse
from starlette.types import Receive, Scope, Send

from tritape.host.server.answers import Answer
from tritape.host.server.errors import Refused, json_response
from tritape.host.server.metrics import Metrics
from tritape.host.server.ticket import Cancelled, Ticket

_GAVE_UP = 499  # what proxies write down for a client that hung up; nobody receives it
_END = object()
_log = logging.getLogger(__name__)


class Exchange:
    """Takes the pieces of one ticket, whole or as a stream, and cancels it as soon as the client is gone. Counts the outcome;
    that of errors that are raised is counted where they are answered."""

    def __init__(self, request: Request, ticket: Ticket[Any], metrics: Metrics) -> None:
        self._pieces, self._metrics = aiter(ticket), metrics
        self._gone = asyncio.create_task(_gone(request))
        self._gone.add_done_callback(lambda _task: ticket.cancel())
        self._outcome = "cancelled"

    async def whole(self, answer: Answer) -> Response:
        """The answer in one."""
        try:
            async for piece in self._pieces:
                answer.add(piece)
        except Cancelled:
            self._metrics.request("cancelled")
            return Response(status_code=_GAVE_UP)
        finally:
            self._gone.cancel()
        self._metrics.request("ok")
        return json_response(answer.whole())

    async def stream(
        self,
        chunks: Callable[[Any], Iterable[Any]],
        first: Callable[[], Iterable[Any]] = tuple,
        last: Callable[[], Iterable[Any]] = tuple,
    ) -> Response:
        """The answer as server-sent events, `chunks` of every piece; what is wrong before the first piece has its own status."""
        try:
            piece = await anext(self._pieces, _END)
        except Cancelled:
            self._metrics.request("cancelled")
            return Response(status_code=_GAVE_UP)
        except BaseException:
            self._gone.cancel()
            raise
        return _Events(self._events(piece, chunks, first, last), self._close)

    async def _events(
        self,
        piece: Any,
        chunks: Callable[[Any], Iterable[Any]],
        first: Callable[[], Iterable[Any]],
        last: Callable[[], Iterable[Any]],
    ) -> AsyncIterator[str]:
        for chunk in first():
            yield _event(chunk)
        try:
            while piece is not _END:
                for chunk in chunks(piece):
                    yield _event(chunk)
                piece = await anext(self._pieces, _END)
        except Cancelled:
            return
        except Exception as error:
            self._outcome = "failed"
            refused = error if isinstance(error, Refused) else Refused(500, "server must not fail; see its log")
            yield _event(refused.body())
            return
        for chunk in last():
            yield _event(chunk)
        self._outcome = "ok"
        yield "data: [DONE]\n\n"

    def _close(self) -> None:
        self._gone.cancel()
        self._metrics.request(self._outcome)


class _Events(StreamingResponse):
    """Server-sent events. `close` is called at the end, also when the client hangs up."""

    def __init__(self, events: AsyncIterator[str], close: Callable[[], None]) -> None:
        super().__init__(events, media_type="text/event-stream", headers={"Cache-Control": "no-store"})
        self._close = close

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await super().__call__(scope, receive, send)
        finally:
            self._close()


def _event(body: Any) -> str:
    return f"data: {json.dumps(body)}\n\n"


async def _gone(request: Request) -> None:
    """Returns when the client has hung up. The body has been read."""
    while (await request.receive())["type"] != "http.disconnect":
        pass
