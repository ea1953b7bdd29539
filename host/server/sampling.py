"""Choosing tokens on the host from the device's logits: for everything that the device's own sampler does not know."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from tritape.host.protocol import inverse_temperature
from tritape.host.slots import generator_after
from tritape.model import arith
from tritape.model.arith import Ints

_NEVER = -(1 << 40)  # below every logit, and small enough to be scaled


@dataclass(frozen=True)
class Sampling:
    """How tokens are chosen. `logprobs`: alternatives to report beside each token; None: no log-probabilities."""

    temperature: float
    seed: int
    top_p: float = 1.0
    presence_penalty: float = 0.0
    frequency_penalty: float = 0.0
    logit_bias: Mapping[int, float] = field(default_factory=dict)
    logprobs: int | None = None

    def needs_logits(self, sampler: bool) -> bool:
        """Whether the host must see the logits; `sampler` says that the device can sample."""
        sampled = self.temperature > 0 and (self.top_p < 1 or not sampler)
        penalised = bool(self.presence_penalty or self.frequency_penalty)
        return sampled or penalised or bool(self.logit_bias) or self.logprobs is not None


class HostSampler:
    """The device's sampler (`arith.choose`) on the host, with nucleus, penalties and biases in front of it.

    Without those every token is the device's own, for any temperature and seed: the generator draws once a logit and step,
    the steps of the prompt included (`steps`: those before the first choice). Penalties count the generated tokens.
    """

    def __init__(self, sampling: Sampling, logit_fraction: int, vocab: int, steps: int) -> None:
        self._sampling, self._scale = sampling, 2.0**logit_fraction
        self._inverse = inverse_temperature(sampling.temperature, logit_fraction)
        self._state = generator_after(sampling.seed, steps * vocab) if self._inverse else 0
        self._seen: Counter[int] = Counter()

    def choose(self, logits: Ints) -> int:
        """The next token."""
        sampling = self._sampling
        changed = logits.astype(np.int64)
        for token, bias in sampling.logit_bias.items():
            changed[token] += round(bias * self._scale)
        for token, count in self._seen.items():
            penalty = sampling.presence_penalty + sampling.frequency_penalty * count
            changed[token] -= round(penalty * self._scale)
        if self._inverse and sampling.top_p < 1:
            changed[~_nucleus(log_softmax(changed, self._scale * sampling.temperature), sampling.top_p)] = _NEVER
        token, self._state = arith.choose(changed, self._inverse, self._state)
        self._seen[token] += 1
        return token


def log_softmax(logits: Ints, scale: float) -> npt.NDArray[np.float64]:
    """Natural logarithms of the probabilities of integer logits of 1/scale each."""
    values = logits / scale
    values -= values.max()
    return values - np.log(np.exp(values).sum())


def _nucleus(logprobs: npt.NDArray[np.float64], top_p: float) -> npt.NDArray[np.bool_]:
    """The fewest most likely tokens that together have `top_p`."""
    order = np.argsort(-logprobs, kind="stable")
    total = np.cumsum(np.exp(logprobs[order]))
    kept = np.zeros(len(order), dtype=bool)
    kept[order[: int(np.searchsorted(total, top_p)) + 1]] = True
    return kept
