"""Messages of a chat into a prompt: the tokenizer's own template, or a plain one for models that have none."""

from __future__ import annotations

import datetime
import json
from collections.abc import Mapping, Sequence
from typing import Any, NoReturn

import jinja2
import jinja2.ext
import jinja2.nodes
import jinja2.parser
import jinja2.sandbox

from tritape.base.errors import TritapeError
from tritape.host.server.errors import Refused
from tritape.model.text.settings import NAMED, Settings, token_text

PLAIN = """\
{%- for message in messages -%}
{{ "" if message.role in ("system", "developer") else message.role | capitalize + ": " }}{{ message.content }}
{% endfor -%}
Assistant:"""
"""For base models: a written dialogue that goes on."""
PLAIN_STOPS = ("\nUser:",)


class _Generation(jinja2.ext.Extension):
    """The tag `generation`, by which training knows what the assistant says; here only what is in it counts."""

    tags = {"generation"}  # noqa: RUF012 (as its base class)

    def parse(self, parser: jinja2.parser.Parser) -> jinja2.nodes.Node:
        """A scope of its own, as in `transformers`: what is set inside is not seen outside."""
        line = next(parser.stream).lineno
        return jinja2.nodes.Scope(parser.parse_statements(("name:endgeneration",), drop_needle=True), lineno=line)


class ChatTemplate:
    """The `chat_template` of a tokenizer's settings, rendered as `transformers` does without tools, in a sandbox.

    `own`: whether the tokenizer has one. Such a prompt has its special tokens in it; the plain one leaves them to the tokenizer,
    and its answer ends where the user would speak (`stops`). Raises TritapeError for a template that is none.
    """

    def __init__(self, settings: Settings) -> None:
        source = settings.get("chat_template")
        if isinstance(source, list):  # several by name
            named = {one.get("name"): one.get("template") for one in source if isinstance(one, Mapping)}
            source = named.get("default")
        self.own = isinstance(source, str)
        self.stops: Sequence[str] = () if self.own else PLAIN_STOPS
        self._tokens = {name: text for name in NAMED if (text := token_text(settings, name)) is not None}
        environment = jinja2.sandbox.ImmutableSandboxedEnvironment(
            trim_blocks=True, lstrip_blocks=True, extensions=[jinja2.ext.loopcontrols, _Generation]
        )
        environment.filters["tojson"] = _json  # Jinja's own is for HTML
        environment.globals["raise_exception"] = _refuse
        environment.globals["strftime_now"] = lambda form: datetime.datetime.now().strftime(form)
        try:
            self._template = environment.from_string(source if isinstance(source, str) else PLAIN)
        except jinja2.TemplateError as error:
            raise TritapeError(
                f"chat_template of the tokenizer must be a Jinja template, not damaged ({error}); mend tokenizer_config.json"
            ) from None

    def prompt(self, messages: Sequence[Mapping[str, Any]]) -> str:
        """The prompt for the next answer. Raises `Refused` for messages that the template does not take."""
        try:
            return self._template.render(
                messages=messages, tools=None, documents=None, add_generation_prompt=True, **self._tokens
            )
        except Exception as error:  # a template can fail in any way
            raise Refused(
                400, f"messages must fit the model's chat template ({error}); change them", "messages"
            ) from None


def _refuse(message: str) -> NoReturn:
    raise jinja2.TemplateError(message)


def _json(
    value: Any,
    ensure_ascii: bool = False,
    indent: int | None = None,
    separators: tuple[str, str] | None = None,
    sort_keys: bool = False,
) -> str:
    return json.dumps(value, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys)
