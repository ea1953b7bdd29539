"""Test helpers: the smallest board, a model for it, and what that model must say."""

from __future__ import annotations

import dataclasses
import itertools

from tritape.hw.config import Config
from tritape.model.checkpoint import random_checkpoint
from tritape.model.config import ModelConfig
from tritape.model.formats import quantise_model
from tritape.model.golden import golden_tokens as golden
from tritape.model.quantised import QuantisedModel
from tritape.sim.soak import soak_board

SMALL = dataclasses.replace(soak_board(), name="small")
"""A board of the smallest kind, for everything that does not depend on which board it is."""


ONE_SLOT = Config(groups=8, max_hidden=64, max_intermediate=128, max_layers=2, max_vocab=256, max_rows=64)
TWO_SLOTS = dataclasses.replace(ONE_SLOT, groups=4, batch=2)
THREE_SLOTS = dataclasses.replace(ONE_SLOT, groups=6, engines=2, max_rows=96, batch=3)
"""What tests of slots simulate: the same everywhere, so that they share simulators."""


def small_model(vocab: int = 256) -> QuantisedModel:
    shape = ModelConfig(vocab_size=vocab, hidden_size=20, num_hidden_layers=2, intermediate_size=24)
    return quantise_model(random_checkpoint(shape, seed=3), ids=list(range(8)))


def with_epsilons(model: QuantisedModel) -> QuantisedModel:
    """The model with epsilons of all 48 bits, and of every other one, in turn with its own small ones."""
    wide = itertools.cycle(((1 << 48) - 1, 0x5555_5555_5555, 0xAAAA_AAAA_AAAA))
    layers = []
    for layer in model.layers:
        projections = dict(layer.projections)
        for name in ("f", "o", "down"):
            projections[name] = dataclasses.replace(projections[name], eps=next(wide))
        layers.append(dataclasses.replace(layer, projections=projections))
    return dataclasses.replace(model, layers=layers)


__all__ = ["ONE_SLOT", "SMALL", "THREE_SLOTS", "TWO_SLOTS", "golden", "small_model", "with_epsilons"]
