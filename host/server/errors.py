"""Errors as OpenAI's servers send them: a status, and a JSON object that names the field."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from starlette.responses import Response


class Refused(Exception):
    """A request that ends with an error: its status, a message with the cure, and the field that is wrong, if one is."""

    def __init__(self, status: int, message: str, param: str | None = None) -> None:
        super().__init__(message)
        self.status, self.message, self.param = status, message, param

    def body(self) -> dict[str, Any]:
        """The JSON object."""
        kind = {429: "rate_limit_error"}.get(self.status, "invalid_request_error")
        if self.status >= 500:
            kind = "server_error"
        return {"error": {"message": self.message, "type": kind, "param": self.param, "code": None}}

    def response(self, headers: Mapping[str, str] | None = None) -> Response:
        """The answer."""
        extra = {"Retry-After": "1"} if self.status == 429 else {}
        return json_response(self.body(), self.status, {**extra, **(headers or {})})


def json_response(body: Any, status: int = 200, headers: Mapping[str, str] | None = None) -> Response:
    """JSON in ASCII, whatever characters a request brought along (a lone surrogate has no UTF-8)."""
    return Response(json.dumps(body), status, headers, "application/json")
