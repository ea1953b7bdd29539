"""One sequence on the device: tokens as they come, with log-probabilities where they are asked for."""

from __future__ import annotations

from collections.abc import Generator, Sequence
from dataclasses import dataclass

import numpy as np

from tritape.host.chat import CHUNK
from tritape.host.jobs import Job
from tritape.host.server.device import ServedDevice
from tritape.host.server.metrics import Metrics
from tritape.host.server.sampling import HostSampler, Sampling, log_softmax
from tritape.host.server.ticket import Seat
from tritape.model.arith import Ints


@dataclass(frozen=True)
class Token:
    """A token of the prompt or of the answer. `logprob` is the model's own, whatever the sampler made of it; None for the first
    of a sequence, and where it was not asked for. `top`: the most likely tokens in its place."""

    id: int
    logprob: float | None = None
    top: tuple[tuple[int, float], ...] = ()


class Runner:
    """Runs sequences on a device whose tape has `vocab` tokens and logits of 2^-`logit_fraction`.

    `sampler` says that the bitstream can sample; where it cannot, or where the request asks for more than its sampler knows,
    every token's logits come to the host.
    """

    def __init__(self, metrics: Metrics, vocab: int, logit_fraction: int, sampler: bool) -> None:
        self._metrics, self._vocab, self._fraction, self._sampler = metrics, vocab, logit_fraction, sampler

    def shares(self, sampling: Sampling) -> bool:
        """Whether sequences that are chosen so can share a device."""
        return not sampling.needs_logits(self._sampler)

    def share(self, seat: Seat, prompt: Sequence[int], count: int, sampling: Sampling) -> Generator[Token | None]:
        """A sequence beside others on a device with slots: `count` tokens as they come, and None while there is none."""
        if not count:
            return
        self._metrics.prompt.inc(len(prompt))
        job, taken = Job(prompt, count, sampling.temperature, sampling.seed), 0
        seat.add(job)
        try:
            while taken < count:
                if taken == len(job.tokens):
                    yield None
                else:
                    self._metrics.completion.inc()
                    yield Token(job.tokens[taken])
                    taken += 1
        finally:
            seat.drop(job)

    def run(
        self, device: ServedDevice, prompt: Sequence[int], count: int, sampling: Sampling, *, score: bool = False
    ) -> Generator[Token | None]:
        """A sequence alone on the device; with `score` the prompt's tokens, then `count` tokens as they come. None at least every
        `CHUNK` tokens of a silent prompt."""
        device.reset()
        if score:
            yield from self._scored(device, prompt, count, sampling)
        elif count:
            on_host = sampling.needs_logits(self._sampler)
            ahead = (len(prompt) - 1) // CHUNK * CHUNK
            device.settings(0.0 if on_host else sampling.temperature, sampling.seed)
            for start in range(0, ahead, CHUNK):
                device.feed(prompt[start : start + CHUNK])
                self._metrics.prompt.inc(CHUNK)
                yield None
            rest = prompt[ahead:]
            self._metrics.prompt.inc(len(rest))
            if on_host:
                yield from self._chosen(device, device.logits(rest), len(prompt), count, sampling)
                return
            for token in device.generate_tokens(rest, count):
                self._metrics.completion.inc()
                yield Token(token)

    def _scored(
        self, device: ServedDevice, prompt: Sequence[int], count: int, sampling: Sampling
    ) -> Generator[Token | None]:
        device.settings(0.0, 0)
        yield Token(prompt[0])
        logits = None
        for place, token in enumerate(prompt):
            if place:
                assert logits is not None
                yield self._token(token, logits, sampling)
            if count or place < len(prompt) - 1:
                logits = device.logits([token])
                self._metrics.prompt.inc()
        if count:
            assert logits is not None
            yield from self._chosen(device, logits, len(prompt), count, sampling)

    def _chosen(
        self, device: ServedDevice, logits: Ints, before: int, count: int, sampling: Sampling
    ) -> Generator[Token]:
        """Tokens that the host chooses; `logits` are those behind the prompt of `before` tokens."""
        chooser = HostSampler(sampling, self._fraction, self._vocab, before - 1)
        for number in range(count):
            chosen = chooser.choose(logits)
            self._metrics.completion.inc()
            yield self._token(chosen, logits, sampling)
            if number < count - 1:
                logits = device.logits([chosen])

    def _token(self, token: int, logits: Ints, sampling: Sampling) -> Token:
        if sampling.logprobs is None:
            return Token(token)
        logprobs = log_softmax(logits, 2.0**self._fraction)
        most = min(sampling.logprobs, len(logprobs))
        order = np.argsort(-logprobs, kind="stable")[:most]
        return Token(token, float(logprobs[token]), tuple((int(one), float(logprobs[one])) for one in order))
