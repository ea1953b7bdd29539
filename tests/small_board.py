"""Test helpers: the smallest board, a model for it, and what that model must say."""

from __future__ import annotations

import dataclasses

from tritape.model.checkpoint import random_checkpoint
from tritape.model.config import ModelConfig
from tritape.model.formats import quantise_model
from tritape.model.golden import golden_tokens as golden
from tritape.model.quantised import QuantisedModel
from tritape.sim.soak import soak_board

SMALL = dataclasses.replace(soak_board(), name="small")
"""A board of the smallest kind, for everything that does not depend on which board it is."""


def small_model(vocab: int = 256) -> QuantisedModel:
    shape = ModelConfig(vocab_size=vocab, hidden_size=20, num_hidden_layers=2, intermediate_size=24)
    return quantise_model(random_checkpoint(shape, seed=3), ids=list(range(8)))


__all__ = ["SMALL", "golden", "small_model"]
