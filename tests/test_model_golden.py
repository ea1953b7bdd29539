"""Integer golden model: close to the authors' outputs and to the float model's loss, whole at once or token by token."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from tritape.model.checkpoint import load_checkpoint, random_checkpoint
from tritape.model.config import ModelConfig
from tritape.model.data import default_model_path
from tritape.model.formats import quantise_model
from tritape.model.golden import UNITS, IntegerModel, Trace
from tritape.model.reference import FloatModel, perplexity
from tritape.model.tokenizer import load_tokenizer

REFERENCE = Path(__file__).parent / "data" / "mmfreelm-tiny"


@pytest.fixture(scope="module")
def small() -> IntegerModel:
    config = ModelConfig(vocab_size=97, hidden_size=40, num_hidden_layers=2, intermediate_size=65)
    return IntegerModel(quantise_model(random_checkpoint(config, seed=3), ids=list(range(24))))


def test_recorded_outputs():
    """rms <= 3 % and top-1 >= 93 % against the outputs of the authors' code."""
    model = IntegerModel(quantise_model(load_checkpoint(REFERENCE)))
    with np.load(REFERENCE / "expected.npz") as data:
        ids, wanted = data["ids"], data["logits"]
    got = []
    for sequence in ids:
        model.reset()
        got.append(model.run(sequence))
    logits = np.array(got)
    assert np.sqrt(np.mean((logits - wanted) ** 2) / np.mean(wanted**2)) <= 0.03
    assert np.mean(logits.argmax(-1) == wanted.argmax(-1)) >= 0.93
    assert not any(model.saturations.values())


def test_perplexity_of_the_default_model():
    """Within 0.5 % of the float model on held-out text."""
    checkpoint = load_checkpoint(default_model_path())
    text = (default_model_path() / "heldout.txt").read_text(encoding="utf-8")
    ids = load_tokenizer(checkpoint).encode(text)[:2001]
    integer = perplexity(IntegerModel(quantise_model(checkpoint)), ids)
    assert abs(integer / perplexity(FloatModel(checkpoint), ids) - 1) <= 0.005


def test_steps_equal_a_run(small: IntegerModel):
    ids = [0, 96, 5, 5, 41]
    small.reset()
    together = small.run_integer(ids)
    saturations, state = dict(small.saturations), small.state.copy()
    small.reset()
    assert np.array_equal(np.array([small.step(token) for token in ids]), together)
    assert small.saturations == saturations
    assert np.array_equal(small.state, state)


def test_trace_names_the_first_difference(small: IntegerModel):
    """Of several wrong elements the earliest in the computation is named."""
    small.reset()
    trace = Trace()
    small.step(7, trace)
    seen = {unit: trace.flat(unit).copy() for unit in UNITS}
    assert trace.first_difference(seen) is None
    sizes = {unit: len(values) for unit, values in seen.items()}
    layer_rows = 4 * 40 + 2 * 65 + 40
    assert sizes["row"] == sizes["value"] == 2 * layer_rows + 97
    assert sizes["activation"] == 2 * (5 * 40 + 65) + 40
    seen["logit"][3] += 1
    seen["vector"][40 + 40 + 5] += 2  # embedding, o, then the residual after o_proj
    assert trace.first_difference(seen) == (
        f"vector layers.0.x_o[5] must be {seen['vector'][85] - 2}, not {seen['vector'][85]}"
    )
    short = {unit: trace.flat(unit)[: 50 if unit == "row" else None] for unit in UNITS}
    assert "row layers.0.f[10] must be" in str(trace.first_difference(short))
    long = {unit: np.append(trace.flat(unit), 0) for unit in ("logit",)}
    assert trace.first_difference(long) == "logit must have 97 elements, not 98"
