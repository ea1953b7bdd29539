"""What integers cost: float model and integer model side by side on a text, for `pack` and everyone who asks."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tritape.model.checkpoint import Checkpoint
from tritape.model.reference import FloatModel

LIMIT = 0.01
"""Largest relative growth of perplexity that passes without a warning."""
PROBE_TOKENS = 128
"""Of a text, to tell how ternary weights are meant."""


@dataclass(frozen=True, eq=False)
class Scores:
    """How a model predicts a text: losses in nats of tokens 1, 2, ... and the likeliest token at each of these places."""

    losses: NDArray[np.float64]
    choices: NDArray[np.int64]

    @property
    def perplexity(self) -> float:
        """exp of the mean loss, which counts as 700 at most: larger ones have no exp."""
        return math.exp(min(float(self.losses.mean()), 700.0))


@dataclass(frozen=True)
class Quality:
    """The two models on the same `tokens`: perplexities, and the share of places where both choose the same token.

    error: standard error of the relative change, from the differences of losses.
    """

    tokens: int
    float_perplexity: float
    integer_perplexity: float
    top1: float
    error: float

    @property
    def change(self) -> float:
        """Relative change of perplexity from float to integer."""
        return self.integer_perplexity / self.float_perplexity - 1

    @property
    def is_poor(self) -> bool:
        """Whether perplexity grows by more than `LIMIT`, and by more than chance would have it."""
        return self.change > max(LIMIT, 2 * self.error)

    def __str__(self) -> str:
        return (
            f"integer against float on {self.tokens} tokens of the calibration text: perplexity "
            f"{self.integer_perplexity:.4g} against {self.float_perplexity:.4g} ({self.change:+.2%} ± {self.error:.2%}), "
            f"the same choice at {self.top1:.1%}"
        )


def score(logits: NDArray[np.float64], ids: Sequence[int]) -> Scores:
    """Scores of logits [n, vocab], each behind one of `ids` [n]."""
    before = logits[:-1] - logits[:-1].max(axis=1, keepdims=True)
    wanted = before[np.arange(len(before)), np.asarray(ids[1:], dtype=np.int64)]
    return Scores(np.log(np.exp(before).sum(axis=1)) - wanted, before.argmax(axis=1))


def compare(floats: Scores, integers: Scores, first: int = 0) -> Quality | None:
    """Quality over the places from `first` on; None where there are none."""
    parts = [Scores(one.losses[first:], one.choices[first:]) for one in (floats, integers)]
    if not len(parts[0].losses):
        return None
    same = float(np.mean(parts[0].choices == parts[1].choices))
    count = len(parts[0].losses)
    error = float(np.std(parts[1].losses - parts[0].losses) / math.sqrt(count))
    return Quality(count, parts[0].perplexity, parts[1].perplexity, same, error)


def readings(checkpoint: Checkpoint, ids: Sequence[int]) -> tuple[float, float]:
    """Perplexity of the float model on a text with ternary weights read by their mean magnitude, and by their own.

    Much the lower one is how they are meant (`Checkpoint.scale`).
    """
    mean, own = (score(FloatModel(checkpoint.with_own_scale(own)).run(ids), ids).perplexity for own in (False, True))
    return mean, own
