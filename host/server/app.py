"""The application: routes, errors in OpenAI's form, metrics, and the page."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from fastapi import FastAPI, Request
from starlette.exceptions import HTTPException
from starlette.middleware.cors import CORSMiddleware
from starlette.responses import FileResponse, Response

from tritape.host.power.sensor import Sensor
from tritape.host.server.device import Backend
from tritape.host.server.endpoints import Endpoints
from tritape.host.server.errors import Refused, json_response
from tritape.host.server.metrics import Metrics
from tritape.host.server.pool import Pool
from tritape.host.server.served import Served

QUEUE = 64
"""Requests that may wait for the device unless told otherwise."""
PAGE = Path(__file__).parent / "page" / "index.html"
_READ = ["GET", "HEAD"]


def make_app(
    backends: Sequence[Backend],
    served: Served,
    *,
    queue: int = QUEUE,
    cors: Sequence[str] = (),
    sensor: Sensor | None = None,
) -> FastAPI:
    """The application (docs/server.md lists its routes). Requests take turns on the devices, at most `queue` wait; a client that
    hangs up frees its slot within `chat.CHUNK` tokens, streaming or not.

    Errors come as OpenAI's do: 4xx for a wrong request, 429 for a full queue, 503 for a device that refuses, whose tape is
    damaged, or that does not answer while there is no other. `cors`: origins whose pages may ask. `sensor`: joules in the
    metrics; it is closed at the end.
    """
    metrics = Metrics(served.slots, sensor)
    pool = Pool(backends, metrics, queue)
    app = FastAPI(title="tritape", docs_url=None, redoc_url=None, openapi_url=None, lifespan=_lifespan(pool, metrics))
    _errors(app, metrics)
    _questions(app, served, pool, metrics)
    endpoints = Endpoints(served, pool, metrics)
    app.post("/v1/completions", response_model=None)(endpoints.completions)
    app.post("/v1/chat/completions", response_model=None)(endpoints.chat)
    app.post("/conversation", response_model=None)(endpoints.conversation)

    @app.delete("/conversation/{name}")
    async def stop(name: str) -> Response:
        if not endpoints.turns.stop(name):
            raise Refused(404, f"turn must be under way, not {name!r}; it has ended")
        return json_response({"id": name, "stopped": True})

    if cors:
        app.add_middleware(CORSMiddleware, allow_origins=list(cors), allow_methods=["*"], allow_headers=["*"])
    return app


def _lifespan(pool: Pool, metrics: Metrics) -> Any:
    @asynccontextmanager
    async def lifespan(_app: FastAPI) -> AsyncIterator[None]:
        pool.start()
        if metrics.meter is not None:
            metrics.meter.start()
        yield
        pool.close()
        if metrics.meter is not None:
            metrics.meter.close()

    return lifespan


def _errors(app: FastAPI, metrics: Metrics) -> None:
    """Every error in OpenAI's form."""

    @app.exception_handler(Refused)
    async def refused(_request: Request, error: Exception) -> Response:
        assert isinstance(error, Refused)
        metrics.request("refused" if error.status < 500 else "failed")
        return error.response()

    @app.exception_handler(HTTPException)
    async def unknown(request: Request, error: Exception) -> Response:
        assert isinstance(error, HTTPException)
        where = f"{request.method} {request.url.path}"
        return Refused(error.status_code, f"route must be one of docs/server.md, not {where!r}; change it").response(
            error.headers
        )

    @app.exception_handler(Exception)
    async def failed(_request: Request, _error: Exception) -> Response:
        metrics.request("failed")
        return Refused(500, "server must not fail; see its log").response()


def _questions(app: FastAPI, served: Served, pool: Pool, metrics: Metrics) -> None:
    """What is answered at once, whatever the device does."""
    model = {"id": served.name, "object": "model", "created": int(time.time()), "owned_by": "tritape"}

    @app.api_route("/health", methods=_READ)
    async def health() -> Response:
        about = {"model": served.name, "slots": served.slots, "sampler": served.sampler, "devices": pool.devices}
        return json_response({"status": "ok", **about})

    @app.api_route("/v1/models", methods=_READ)
    async def models() -> Response:
        return json_response({"object": "list", "data": [model]})

    @app.api_route("/v1/models/{name:path}", methods=_READ)
    async def one(name: str) -> Response:
        if name != served.name:
            raise Refused(404, f"model must be {served.name}, not {name!r}; see /v1/models", "model")
        return json_response(model)

    @app.api_route("/metrics", methods=_READ)
    async def counters() -> Response:
        return Response(metrics.text(), media_type="text/plain; version=0.0.4")

    @app.api_route("/", methods=_READ)
    async def page() -> Response:
        return FileResponse(PAGE, headers={"Content-Security-Policy": "default-src 'self' 'unsafe-inline'"})
