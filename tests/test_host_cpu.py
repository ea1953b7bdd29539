"""The CPU kernel against the golden model: every logit, state over a sequence, sampling, odd shapes, extremes."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np
import pytest

from tritape.base.errors import TritapeError
from tritape.host import cpu
from tritape.host.cpu import CPUModel
from tritape.model import arith
from tritape.model.checkpoint import load_checkpoint, random_checkpoint
from tritape.model.config import ModelConfig
from tritape.model.data import default_model_path
from tritape.model.formats import quantise_model
from tritape.model.golden import IntegerModel
from tritape.model.quantised import QuantisedModel


def random_model(hidden: int, intermediate: int, layers: int, vocab: int, seed: int = 1) -> QuantisedModel:
    shape = ModelConfig(vocab_size=vocab, hidden_size=hidden, num_hidden_layers=layers, intermediate_size=intermediate)
    return quantise_model(random_checkpoint(shape, seed=seed), ids=[i % vocab for i in range(8)])


def assert_equal(model: QuantisedModel, ids: Sequence[int]) -> None:
    kernel, golden = CPUModel(model), IntegerModel(model)
    for token in ids:
        chosen = kernel.feed([token])
        expected = golden.step(token)
        assert np.array_equal(kernel.logits(), expected)
        assert chosen == int(np.argmax(expected))


@pytest.mark.parametrize("shape", [(16, 24, 1, 7), (130, 257, 2, 33), (128, 384, 3, 64), (300, 2100, 1, 1001)])
def test_random_models(shape):
    model = random_model(*shape)
    assert_equal(model, np.random.default_rng(0).integers(0, shape[3], 12).tolist())


def test_portable_code_equals(monkeypatch):
    """The path without AVX2."""
    flags = tuple("-mno-avx2" if flag == "-march=native" else flag for flag in cpu.FLAGS)
    monkeypatch.setattr(cpu.build, "__defaults__", (flags,))
    assert_equal(random_model(130, 257, 1, 33), [1, 2, 3, 0])


def test_default_model_sampled():
    """64 sampled tokens of the embedded model: the generator's steps too."""
    model = quantise_model(load_checkpoint(default_model_path()))
    kernel, golden = CPUModel(model), IntegerModel(model)
    kernel.settings(0.7, seed=5)
    inverse, state = cpu.inverse_temperature(0.7, model.logit_fraction), 5
    prompt, expected = [40, 500, 3], []
    for token in prompt:
        chosen, state = arith.choose(golden.step(token), inverse, state)
    for _ in range(64):
        expected.append(chosen)
        chosen, state = arith.choose(golden.step(chosen), inverse, state)
    assert list(kernel.generate_tokens(prompt, 64)) == expected
    assert len(set(expected)) > 20


def test_generation_starts_afresh_and_goes_on():
    model = random_model(64, 64, 2, 50)
    kernel = CPUModel(model)
    first = list(kernel.generate_tokens([1, 2], 10))
    kernel.reset()
    assert list(kernel.generate_tokens([1, 2], 10)) == first
    state = CPUModel(model)
    assert list(state.generate_tokens([1, 2], 4)) + list(state.generate_tokens([first[3]], 6)) == first


def test_extremes():
    """Saturating residuals, weights all one, an all-zero norm, the smallest and largest constants."""
    model = random_model(40, 70, 2, 20)
    layer = model.layers[0]
    wild = {
        name: dataclasses.replace(
            p,
            weights=np.full_like(p.weights, 1 if index % 2 else -1),
            mantissa=(1, 0xFFFF)[index % 2],
            exponent=(-12, 6)[index % 2],
            eps=(0, (1 << 48) - 1)[index % 3 == 2],
        )
        for index, (name, p) in enumerate(layer.projections.items())
    }
    wild["o"] = dataclasses.replace(wild["o"], gain_product=np.zeros_like(wild["o"].gain_product))
    layers = [dataclasses.replace(layer, projections=wild, o_shift=0, m_shift=0), *model.layers[1:]]
    assert_equal(dataclasses.replace(model, layers=layers, multiplier=0xFFFF), [0, 5, 19, 5, 5, 7])


def test_token_outside_vocabulary():
    with pytest.raises(TritapeError, match="20"):
        CPUModel(random_model(40, 70, 1, 20)).feed([20])
