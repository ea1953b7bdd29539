"""Twenty seconds of the soak that `make soak` does for hours, and that it can fail."""

from __future__ import annotations

import re

import pytest
from small_board import SMALL

from tritape.model import arith
from tritape.model.checkpoint import random_checkpoint
from tritape.model.config import ModelConfig
from tritape.model.formats import quantise_model
from tritape.model.quantised import QuantisedModel
from tritape.sim import soak as soak_module
from tritape.sim.soak import soak

pytestmark = [pytest.mark.slow, pytest.mark.optimised]


def tiny_model() -> QuantisedModel:
    """One that is written over the UART's pins in a moment."""
    shape = ModelConfig(vocab_size=32, hidden_size=8, num_hidden_layers=1, intermediate_size=8)
    return quantise_model(random_checkpoint(shape, seed=3), ids=list(range(8)))


@pytest.mark.long
def test_twenty_seconds() -> None:
    result = soak(20, seed=1, shape=SMALL, model=tiny_model())
    assert result["failure"] is None
    assert result["tokens"] > 10
    assert len(result["done"]) > 1
    assert min(result["board_bytes_by_quarter"] + result["host_bytes_by_quarter"]) > 1 << 20


def test_a_wrong_token_ends_it(monkeypatch: pytest.MonkeyPatch) -> None:
    choose = arith.choose
    monkeypatch.setattr(soak_module.arith, "choose", lambda *values: (choose(*values)[0] ^ 1, choose(*values)[1]))
    result = soak(5, seed=1, shape=SMALL, model=tiny_model())
    assert re.fullmatch(r"WrongError: token 1 must be \d+, not \d+", result["failure"])
