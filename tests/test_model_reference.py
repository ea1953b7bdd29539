"""The float reference against the authors' own outputs, and its own invariants."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tritape.base.errors import TritapeError
from tritape.model.checkpoint import Checkpoint, load_checkpoint, random_checkpoint
from tritape.model.config import ModelConfig
from tritape.model.data import default_model_path
from tritape.model.reference import FloatModel, Recorder, perplexity, round_half_away, sigmoid
from tritape.model.tokenizer import Tokenizer

TINY = Path(__file__).parent / "data" / "mmfreelm-tiny"
SMALL = ModelConfig(vocab_size=11, hidden_size=8, num_hidden_layers=3, intermediate_size=12, use_lower_bound=True)


class Keep(Recorder):
    """Keeps the last array of every name."""

    def __init__(self) -> None:
        super().__init__()
        self.arrays: dict[str, np.ndarray] = {}

    def add(self, name: str, array: np.ndarray) -> None:
        super().add(name, array)
        self.arrays[name] = array.copy()


@pytest.mark.parametrize("sequence", range(4))
def test_equals_the_authors_implementation(sequence: int) -> None:
    expected = np.load(TINY / "expected.npz")
    keep = Keep()
    logits = FloatModel(load_checkpoint(TINY)).run(expected["ids"][sequence], keep)
    assert np.abs(logits - expected["logits"][sequence]).max() <= 1e-5 * np.abs(expected["logits"]).max()
    for index, name in enumerate(("embedding", "layers.0.x_mlp", "norm")):
        hidden = expected["hidden_states"][index, sequence]
        assert np.abs(keep.arrays[name] - hidden).max() <= 1e-5 * np.abs(hidden).max(), name
    np.testing.assert_array_equal(keep.arrays["logits"], logits)


@settings(max_examples=25, deadline=None)
@given(st.lists(st.integers(0, 10), min_size=1, max_size=40), st.integers(0, 40), st.booleans())
def test_runs_continue_from_the_state(ids: list[int], cut: int, bounded: bool) -> None:
    config = ModelConfig(11, 8, 3, 12, use_lower_bound=bounded)
    model = FloatModel(random_checkpoint(config, 3))
    whole, state = model.run(ids), model.state
    model.reset()
    np.testing.assert_array_equal(np.concatenate([model.run(ids[:cut]), model.run(ids[cut:])]), whole)
    np.testing.assert_array_equal(model.state, state)
    model.reset()
    np.testing.assert_array_equal([model.step(token) for token in ids], whole)


def test_recurrence_and_output_gate_from_the_recorded_parts() -> None:
    """Recompute the element-wise parts one token at a time from what the recorder saw."""
    checkpoint = random_checkpoint(SMALL, 9)
    keep = Keep()
    FloatModel(checkpoint).run([1, 2, 3, 4, 5, 10], keep)
    for layer in range(3):
        part = {
            k.removeprefix(f"layers.{layer}."): v for k, v in keep.arrays.items() if k.startswith(f"layers.{layer}.")
        }
        lower = checkpoint.lower_bounds()[layer]
        assert lower.any() == (layer > 0)
        h = np.zeros(8)
        for t in range(6):
            f = lower + (1 - lower) / (1 + np.exp(-part["f"][t]))
            h = f * h + part["i"][t] / (1 + np.exp(-part["i"][t])) * (1 - f)
            np.testing.assert_allclose(part["h"][t], h, rtol=1e-12)
        np.testing.assert_allclose(part["silu_h"], part["h"] / (1 + np.exp(-part["h"])), rtol=1e-12)
        gain = checkpoint.tensor(f"model.layers.{layer}.attn.g_norm.weight")
        np.testing.assert_allclose(part["o_in"], part["g"] * gain * part["silu_h"], rtol=1e-12)
        np.testing.assert_allclose(part["m"], part["gate"] / (1 + np.exp(-part["gate"])) * part["up"], rtol=1e-12)
        assert part["x_attn"].shape == part["x_mlp"].shape == (6, 8)


def transcribed(checkpoint: Checkpoint, ids: list[int]) -> np.ndarray:
    """The formulas of numerics.md, token by token, row by row, on the latent weights."""
    config, tensor, eps = checkpoint.config, checkpoint.tensor, checkpoint.config.rms_norm_eps

    def norm(x: np.ndarray, name: str, e: float) -> np.ndarray:
        return x / math.sqrt((x * x).mean() + e) * tensor(f"{name}.weight").astype(np.float64)

    def bitlinear(x: np.ndarray, name: str) -> np.ndarray:
        weight = tensor(f"{name}.weight").astype(np.float64)
        scale = np.abs(weight).mean()
        xn = norm(x, f"{name}.norm", 1e-6)
        s = 127 / max(np.abs(xn).max(), 1e-5)
        q = [math.copysign(math.floor(abs(v) + 0.5), v) for v in xn * s]
        return np.array([np.dot(np.clip(np.rint(row / scale), -1, 1), q) * scale / s for row in weight])

    logistic = lambda a: 1 / (1 + np.exp(-a))  # noqa: E731
    share = np.exp(tensor("model.lower_bounds").astype(np.float64)) if config.use_lower_bound else None
    h, logits = [np.zeros(config.hidden_size) for _ in range(config.num_hidden_layers)], []
    for token in ids:
        x = tensor("model.embeddings.weight")[token].astype(np.float64)
        for l in range(config.num_hidden_layers):
            p = f"model.layers.{l}"
            n = norm(x, f"{p}.attn_norm", eps)
            i, f, g = (bitlinear(n, f"{p}.attn.{name}_proj") for name in "ifg")
            f = logistic(f)
            if share is not None and l > 0:
                lower = share[1 : l + 1].sum(axis=0) / share.sum(axis=0)
                f = lower + (1 - lower) * f
            h[l] = f * h[l] + i * logistic(i) * (1 - f)
            x = x + bitlinear(norm(g, f"{p}.attn.g_norm", eps) * h[l] * logistic(h[l]), f"{p}.attn.o_proj")
            y = bitlinear(norm(x, f"{p}.mlp_norm", eps), f"{p}.mlp.gate_proj")
            gate, up = y[: config.intermediate_size], y[config.intermediate_size :]
            x = x + bitlinear(gate * logistic(gate) * up, f"{p}.mlp.down_proj")
        logits.append(bitlinear(norm(x, "model.norm", eps), "lm_head"))
    return np.array(logits)


@pytest.mark.parametrize("bounded", [True, False])
def test_equals_a_transcription_of_the_contract(bounded: bool) -> None:
    """Unlike the authors' checkpoint: three layers, no power of two, and an rms_norm_eps unlike a BitLinear's own."""
    config = ModelConfig(11, 8, 3, 12, rms_norm_eps=0.3, use_lower_bound=bounded)
    checkpoint = random_checkpoint(config, 6)
    ids = [7, 0, 10, 3, 3, 9, 1]
    np.testing.assert_allclose(FloatModel(checkpoint).run(ids), transcribed(checkpoint, ids), rtol=1e-9, atol=1e-9)


def test_recording_changes_nothing_and_accumulates() -> None:
    model = FloatModel(random_checkpoint(SMALL, 9))
    plain = model.run([3, 1, 4, 1, 5])
    model.reset()
    record = Recorder()
    logits = np.concatenate([model.run([3, 1, 4], record), model.run([1, 5], record)])
    np.testing.assert_array_equal(logits, plain)
    assert record.count["logits"] == plain.size
    assert record.max_abs["logits"] == np.abs(plain).max()
    assert record.mean_square("logits") == pytest.approx(np.mean(plain**2))
    halves = ("i", "f", "g", "h", "silu_h", "o_in", "x_attn", "gate", "up", "m", "x_mlp")
    names = {"embedding", "norm", "logits"} | {f"layers.{layer}.{name}" for layer in range(3) for name in halves}
    assert set(record.max_abs) == names


@pytest.mark.parametrize(
    ("ids", "message"),
    [
        ([1, 11], "token id must be from 0 to 10, not 11; use the tokenizer of this checkpoint"),
        ([-1], "token id must be from 0 to 10, not -1"),
        ([1.5], r"token ids must be a list of integers, not float64 of shape \[1\]; encode the text"),
        ([[1]], r"token ids must be a list of integers, not int64 of shape \[1, 1\]"),
    ],
)
def test_refuses_bad_ids(ids: list, message: str) -> None:
    model = FloatModel(random_checkpoint(SMALL, 1))
    with pytest.raises(TritapeError, match=message):
        model.run(ids)
    assert not model.state.any()


def test_empty_runs() -> None:
    model = FloatModel(random_checkpoint(SMALL, 1))
    assert model.run([]).shape == (0, 11)


class Uniform:
    """A model that finds every token equally likely, apart from a constant in its logits."""

    def __init__(self) -> None:
        self.sizes: list[int] = []

    def reset(self) -> None:
        self.sizes = []

    def run(self, ids: np.ndarray) -> np.ndarray:
        self.sizes.append(len(ids))
        return np.full((len(ids), 7), 1e4)


def test_perplexity_of_a_uniform_model_is_its_vocabulary() -> None:
    model, seen = Uniform(), []
    value = perplexity(model, [0, 1, 2, 3, 4, 5, 6, 0], chunk=3, progress=lambda *step: seen.append(step))
    assert value == pytest.approx(7.0)
    assert model.sizes == [3, 3, 1]
    assert seen == [(3, 7), (6, 7), (7, 7)]


def test_perplexity_is_the_mean_loss_whatever_the_chunk() -> None:
    model = FloatModel(random_checkpoint(SMALL, 1))
    ids = [1, 5, 2, 2, 10, 0]
    logits = model.run(ids)
    loss = [math.log(np.exp(row).sum()) - row[token] for row, token in zip(logits, ids[1:])]
    for chunk in (1, 2, 100):
        assert perplexity(model, ids, chunk) == pytest.approx(math.exp(np.mean(loss)), rel=1e-12)


def test_perplexity_needs_two_tokens() -> None:
    with pytest.raises(TritapeError, match="number of tokens must be at least 2, not 1; give a longer text"):
        perplexity(Uniform(), [1])


def test_embedded_model_has_learnt_its_language() -> None:
    """README of the model: 1.345 bits a byte on the whole held-out text; its start is about as hard."""
    folder = default_model_path()
    checkpoint = load_checkpoint(folder)
    tokenizer = Tokenizer(folder / "tokenizer.json", checkpoint.config.vocab_size)
    ids = tokenizer.encode((folder / "heldout.txt").read_text(encoding="utf-8")[:8000])
    size = len(tokenizer.decode(ids[1:]).encode())
    bits = math.log2(perplexity(FloatModel(checkpoint), ids)) * (len(ids) - 1) / size
    assert 1.25 < bits < 1.42


def test_rounding_and_sigmoid() -> None:
    values = np.array([0.5, -0.5, 1.5, -1.5, 2.5, 0.49999999999999994, -0.2, 126.5, 0.0])
    assert round_half_away(values).tolist() == [1, -1, 2, -2, 3, 0, 0, 127, 0]
    with np.errstate(all="raise"):
        assert sigmoid(np.array([-700.0, 0.0, 700.0])).tolist() == [np.exp(-700.0), 0.5, 1.0]
