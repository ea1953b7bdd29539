"""What the endpoints do: a checked request into work for the device, and its pieces into an answer."""

from __future__ import annotations

import random
from collections.abc import Sequence

from fastapi import Request
from starlette.concurrency import run_in_threadpool
from starlette.responses import Response

from tritape.base.errors import TritapeError
from tritape.host.protocol import inverse_temperature
from tritape.host.server.answers import Answer, ChatAnswer, CompletionAnswer
from tritape.host.server.conversation import Turns
from tritape.host.server.errors import Refused
from tritape.host.server.exchange import Exchange
from tritape.host.server.generation import Generation
from tritape.host.server.metrics import Metrics
from tritape.host.server.pool import Pool
from tritape.host.server.sampling import Sampling
from tritape.host.server.schema import (
    CHAT_TOKENS,
    ChatRequest,
    Common,
    CompletionRequest,
    ConversationRequest,
    parse,
)
from tritape.host.server.sequence import Runner
from tritape.host.server.served import Served
from tritape.host.server.template import ChatTemplate

_TURN = ("model", "text", "conversation", "max_tokens", "temperature", "seed", "id")


class Endpoints:
    """The routes' handlers. All raise `Refused` for a wrong request and for a device that fails."""

    def __init__(self, served: Served, pool: Pool, metrics: Metrics) -> None:
        self._served, self._pool, self._metrics = served, pool, metrics
        self._template = ChatTemplate(served.codec.settings)
        self._runner = Runner(metrics, served.vocab_size, served.logit_fraction, served.sampler)
        self.turns = Turns(served.codec, served.sha256, metrics)

    async def completions(self, request: Request) -> Response:
        """POST /v1/completions."""
        asked = await parse(request, CompletionRequest)
        asks, answer = await run_in_threadpool(self._completion, asked)
        return await self._generate(request, asked, asks, answer)

    async def chat(self, request: Request) -> Response:
        """POST /v1/chat/completions."""
        asked = await parse(request, ChatRequest)
        asks, answer = await run_in_threadpool(self._chat, asked)
        return await self._generate(request, asked, asks, answer)

    async def conversation(self, request: Request) -> Response:
        """POST /conversation: server-sent events, the last with the conversation."""
        asked = await parse(request, ConversationRequest)
        seed = await run_in_threadpool(self._check_turn, asked)
        ticket = self._pool.submit(lambda device, _seat: self.turns.work(device, asked, seed))
        return await Exchange(request, ticket, self._metrics).stream(lambda event: [event])

    def _completion(self, asked: CompletionRequest) -> tuple[Generation, Answer]:
        best_of = asked.best_of or asked.n
        if best_of < asked.n:
            raise Refused(400, f"best_of must be at least n = {asked.n}, not {best_of}; ask for more", "best_of")
        if best_of > asked.n and asked.stream:
            raise Refused(400, f"best_of must be n = {asked.n} in a stream, not {best_of}; leave one out", "best_of")
        if asked.max_tokens == 0 and not asked.echo:
            raise Refused(400, "max_tokens must be at least 1 without echo, not 0; ask for more", "max_tokens")
        prompts = [self._ids(prompt, "prompt") for prompt in asked.prompt]
        logprobs = 0 if asked.logprobs is None and best_of > asked.n else asked.logprobs
        echo = None
        if asked.echo:
            decode = self._served.codec.decode
            echo = [prompt if isinstance(prompt, str) else decode(prompt) for prompt in asked.prompt]
        asks = Generation(
            prompts, asked.max_tokens, self._sampling(asked, logprobs), asked.stop, asked.n, best_of, echo
        )
        return asks, self._answer(CompletionAnswer, asked, prompts, asked.logprobs is not None)

    def _chat(self, asked: ChatRequest) -> tuple[Generation, Answer]:
        if asked.top_logprobs is not None and not asked.logprobs:
            raise Refused(400, "top_logprobs must come with logprobs: true; set it", "top_logprobs")
        if asked.max_tokens is not None and asked.max_completion_tokens is not None:
            raise Refused(400, "max_tokens must not come with max_completion_tokens; leave one out", "max_tokens")
        messages = [
            {"role": one.role, "content": one.text(), **({"name": one.name} if one.name else {})}
            for one in asked.messages
        ]
        ids = self._ids(self._template.prompt(messages), "messages", special=not self._template.own)
        logprobs = (asked.top_logprobs or 0) if asked.logprobs else None
        count = asked.max_tokens or asked.max_completion_tokens or CHAT_TOKENS
        stops = [*asked.stop, *self._template.stops]
        asks = Generation([ids], count, self._sampling(asked, logprobs), stops, asked.n, asked.n)
        return asks, self._answer(ChatAnswer, asked, [ids], asked.logprobs)

    def _check_turn(self, asked: ConversationRequest) -> int:
        """Refuse a wrong turn; its seed."""
        for name in sorted(asked.model_fields_set - set(_TURN)):
            raise Refused(400, f"{name} must be left out of a turn: use /v1/completions for it", name)
        sampling = self._sampling(asked, None)
        if sampling.needs_logits(self._served.sampler):
            raise Refused(400, "temperature must be 0 on this bitstream, which is greedy; set it", "temperature")
        pending = asked.conversation.get("pending") if asked.conversation is not None else []
        if not isinstance(pending, list) or not all(
            type(token) is int and 0 <= token < self._served.vocab_size for token in pending
        ):
            raise Refused(400, "conversation must be a file that this server or `tritape chat` saved", "conversation")
        if asked.text or not pending:
            self._ids(asked.text, "text")
        return sampling.seed

    def _ids(self, prompt: str | Sequence[int], param: str, special: bool = True) -> Sequence[int]:
        """Token ids of a prompt, checked."""
        vocab = self._served.vocab_size
        try:
            ids = self._served.codec.encode(prompt, special) if isinstance(prompt, str) else prompt
        except TritapeError as error:
            raise Refused(400, str(error), param) from None
        if not ids:
            raise Refused(400, f"{param} must have at least one token, not none; give some text", param)
        if not all(0 <= token < vocab for token in ids):
            raise Refused(400, f"{param} must have tokens from 0 to {vocab - 1}; change it", param)
        return ids

    def _sampling(self, asked: Common, logprobs: int | None) -> Sampling:
        served = self._served
        if asked.model not in ("", served.name):
            raise Refused(404, f"model must be {served.name}, not {asked.model!r}; see /v1/models", "model")
        if asked.stream_options is not None and not asked.stream:
            raise Refused(400, "stream_options must come with stream: true; set it", "stream_options")
        try:
            inverse_temperature(asked.temperature, served.logit_fraction)
        except TritapeError as error:
            raise Refused(400, str(error), "temperature") from None
        bias = {}
        for text, value in asked.logit_bias.items():
            if not (text.isascii() and text.isdecimal() and len(text) < 10 and int(text) < served.vocab_size):
                raise Refused(400, f"logit_bias must name tokens from 0 to {served.vocab_size - 1}", "logit_bias")
            bias[int(text)] = value
        seed = random.getrandbits(32) if asked.seed is None else asked.seed % (1 << 32)
        return Sampling(
            asked.temperature, seed, asked.top_p, asked.presence_penalty, asked.frequency_penalty, bias, logprobs
        )

    def _answer(
        self, kind: type[Answer], asked: CompletionRequest | ChatRequest, prompts: Sequence[Sequence[int]], scores: bool
    ) -> Answer:
        usage = asked.stream_options is not None and asked.stream_options.include_usage
        choices, prompt_tokens = len(prompts) * asked.n, sum(map(len, prompts))
        return kind(self._served.name, choices, prompt_tokens, logprobs=scores, usage=usage)

    async def _generate(self, request: Request, asked: Common, asks: Generation, answer: Answer) -> Response:
        codec, runner = self._served.codec, self._runner
        ticket = self._pool.submit(
            lambda device, seat: asks.work(device, seat, runner, codec), shares=asks.shares(runner)
        )
        exchange = Exchange(request, ticket, self._metrics)
        if asked.stream:
            return await exchange.stream(answer.chunks, answer.first, answer.last)
        return await exchange.whole(answer)
