"""Test helpers: the smallest board, a model for it, and what that model must say."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

from tritape.hw.config import Config
from tritape.model import arith
from tritape.model.checkpoint import random_checkpoint
from tritape.model.config import ModelConfig
from tritape.model.formats import quantise_model
from tritape.model.golden import IntegerModel
from tritape.model.quantised import QuantisedModel
from tritape.rtl_gen.boards import board

SMALL = dataclasses.replace(
    board("ulx3s-85f"),
    name="small",
    config=Config(
        groups=4, tables_per_filler=4, max_hidden=32, max_intermediate=48, max_layers=2, max_vocab=256, max_rows=128
    ),
    memory_words=4096,
)
"""A board of the smallest kind, for everything that does not depend on which board it is."""


def small_model(vocab: int = 256) -> QuantisedModel:
    shape = ModelConfig(vocab_size=vocab, hidden_size=20, num_hidden_layers=2, intermediate_size=24)
    return quantise_model(random_checkpoint(shape, seed=3), ids=list(range(8)))


def golden(model: QuantisedModel, prompt: Sequence[int], count: int, inverse: int = 0, seed: int = 0) -> list[int]:
    """Tokens that the golden model generates after a prompt."""
    run, state, tokens = IntegerModel(model), seed or arith.XORSHIFT_DEFAULT, list(prompt)
    for place in range(len(prompt) + count - 1):
        chosen, state = arith.choose(run.step(tokens[place]), inverse, state)
        if place >= len(prompt) - 1:
            tokens.append(chosen)
    return tokens[len(prompt) :]
