"""Requests: every field that OpenAI's clients send is obeyed, or refused by name. null means the default everywhere."""

from __future__ import annotations

import json
from typing import Annotated, Any, Literal, NoReturn, TypeVar

from fastapi import Request
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, field_validator

from tritape.host.server.errors import Refused

MAX_TOKENS = 4096
"""Most tokens of one choice."""
CHAT_TOKENS = 256
"""Tokens of a chat's answer unless the request says how many."""
MAX_BODY = 4 << 20
"""Most bytes of a request."""
MAX_PROMPTS = 256
MAX_CHOICES = 20

Bias = Annotated[float, Field(ge=-100, le=100)]
Body = TypeVar("Body", bound="Common")


def _listed(value: Any) -> Any:
    return [value] if isinstance(value, str) else value


class StreamOptions(BaseModel):
    """`stream_options`."""

    model_config = ConfigDict(extra="forbid", strict=True)
    include_usage: bool = False
    include_obfuscation: Literal[False] = False


class Common(BaseModel):
    """What both endpoints take. `temperature` 0 is greedy; `seed` repeats a text, without one texts differ. `user`, `metadata`,
    and the keys of caches and safety services say who asks; nothing depends on them here."""

    model_config = ConfigDict(extra="forbid", strict=True, allow_inf_nan=False, protected_namespaces=())

    model: str = ""
    temperature: float = Field(1.0, ge=0, le=1000)
    top_p: float = Field(1.0, gt=0, le=1)
    presence_penalty: float = Field(0.0, ge=-2, le=2)
    frequency_penalty: float = Field(0.0, ge=-2, le=2)
    logit_bias: dict[str, Bias] = Field({}, max_length=1024)
    seed: int | None = Field(None, ge=-(1 << 63), lt=1 << 63)
    n: int = Field(1, ge=1, le=MAX_CHOICES)
    stop: Annotated[list[Annotated[str, Field(min_length=1)]], Field(max_length=16), BeforeValidator(_listed)] = []
    stream: bool = False
    stream_options: StreamOptions | None = None
    user: str = ""
    metadata: dict[str, str] = {}
    safety_identifier: str = ""
    prompt_cache_key: str = ""


class CompletionRequest(Common):
    """POST /v1/completions."""

    prompt: list[Any]
    """Texts and lists of token ids; one of either may come without the list around it."""
    max_tokens: int = Field(16, ge=0, le=MAX_TOKENS)
    logprobs: int | None = Field(None, ge=0, le=20)
    echo: bool = False
    best_of: int | None = Field(None, ge=1, le=MAX_CHOICES)
    suffix: Literal[""] = ""

    @field_validator("prompt", mode="before")
    @classmethod
    def _prompts(cls, value: Any) -> list[str | list[int]]:
        if isinstance(value, str) or _is_ids(value):
            return [value]
        if (
            isinstance(value, list)
            and 1 <= len(value) <= MAX_PROMPTS
            and all(isinstance(one, str) or _is_ids(one) for one in value)
        ):
            return value
        raise ValueError(f"prompt must be a text, token ids, or at most {MAX_PROMPTS} of those; change it")


def _is_ids(value: Any) -> bool:
    return isinstance(value, list) and bool(value) and all(type(token) is int for token in value)


class TextPart(BaseModel):
    """A part of a message."""

    model_config = ConfigDict(extra="forbid", strict=True)
    type: Literal["text"]
    text: str


class Message(BaseModel):
    """A message of a chat."""

    model_config = ConfigDict(extra="forbid", strict=True)
    role: Literal["system", "developer", "user", "assistant"]
    content: str | list[TextPart]
    name: str = ""
    tool_calls: Annotated[list[Any], Field(max_length=0)] = []
    annotations: Annotated[list[Any], Field(max_length=0)] = []

    def text(self) -> str:
        """The content as one string."""
        return self.content if isinstance(self.content, str) else "".join(part.text for part in self.content)


class ResponseFormat(BaseModel):
    """`response_format`: text is all that there is."""

    model_config = ConfigDict(extra="forbid", strict=True)
    type: Literal["text"]


class ChatRequest(Common):
    """POST /v1/chat/completions."""

    messages: list[Message] = Field(min_length=1, max_length=1024)
    max_tokens: int | None = Field(None, ge=1, le=MAX_TOKENS)
    max_completion_tokens: int | None = Field(None, ge=1, le=MAX_TOKENS)
    logprobs: bool = False
    top_logprobs: int | None = Field(None, ge=0, le=20)
    response_format: ResponseFormat | None = None
    tools: Annotated[list[Any], Field(max_length=0)] = []
    functions: Annotated[list[Any], Field(max_length=0)] = []
    tool_choice: Literal["none", "auto"] = "none"
    parallel_tool_calls: bool = True
    modalities: list[Literal["text"]] = ["text"]
    store: Literal[False] = False
    service_tier: Literal["auto", "default"] = "auto"


class ConversationRequest(Common):
    """POST /conversation: a turn of the page's chat. `conversation` is the file that the turn before ended with."""

    text: str = Field("", max_length=1 << 20)
    conversation: dict[str, Any] | None = None
    max_tokens: int = Field(CHAT_TOKENS, ge=1, le=MAX_TOKENS)
    id: str = Field("", max_length=64)


_WHY = {
    "suffix": "suffix must be empty, not text: this model only goes on from a prompt; leave it out",
    "tools": "tools must be empty: this server calls none; leave them out",
    "functions": "functions must be empty: this server calls none; leave them out",
    "response_format": "response_format must be text: this server does not hold an answer to a grammar; leave it out",
    "store": "store must be false: this server keeps nothing; leave it out",
}


async def parse(request: Request, kind: type[Body]) -> Body:
    """The body of a request, checked. Raises `Refused` for any other bytes."""
    declared = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if declared != "application/json" and not declared.endswith("+json"):
        raise Refused(415, f"Content-Type must be application/json, not {declared!r}; set the header")
    data = bytearray()
    async for part in request.stream():
        data += part
        if len(data) > MAX_BODY:
            raise Refused(413, f"body must have at most {MAX_BODY} bytes, not more; send less")
    try:
        body = json.loads(bytes(data), parse_constant=_no_number, object_hook=_without_nulls)
    except (ValueError, RecursionError) as error:
        raise Refused(
            400, f"body must be JSON, not other bytes ({str(error) or 'nested too deeply'}); mend it"
        ) from None
    if not isinstance(body, dict):
        raise Refused(400, f"body must be a JSON object, not {type(body).__name__}; send fields")
    try:
        return kind.model_validate(body)
    except ValidationError as error:
        raise _refused(error) from None


def _without_nulls(fields: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in fields.items() if value is not None}


def _no_number(name: str) -> NoReturn:
    raise ValueError(f"{name} is no JSON")


def _refused(error: ValidationError) -> Refused:
    first = error.errors(include_url=False, include_context=False, include_input=False)[0]
    field = str(first["loc"][0]) if first["loc"] else "body"
    if field in _WHY and first["type"] != "missing":
        return Refused(400, _WHY[field], field)
    if first["type"] == "extra_forbidden" and len(first["loc"]) == 1:
        return Refused(400, f"{field} must be left out: this server does not know it", field)
    if first["type"] == "value_error":
        return Refused(400, first["msg"].removeprefix("Value error, "), field)
    where = ".".join(str(part) for part in first["loc"])
    return Refused(400, f"{where if len(where) < 80 else field}: {first['msg']}", field)
