"""The float64 reference of the released `hgrn_bit` code: what the integer model must stay close to by loss.

One token (rms(x, g, eps) = x / sqrt(mean(x^2) + eps) * g, sigma = logistic, silu(a) = a * sigma(a), e = rms_norm_eps):

    BitLinear(x):  xn = rms(x, gain, 1e-6);  s = 127 / max(max|xn|, 1e-5);  q = clip(round(xn * s), -128, 127)
                   y = (T @ q) * w_scale / s                    # round half away from zero
    layer l:       n = rms(x, attn_norm, e);  i, f, g = i_proj(n), sigma(f_proj(n)), g_proj(n)
                   f = lb[l] + (1 - lb[l]) * f                  # l > 0, use_lower_bound
                   h[l] = f * h[l] + silu(i) * (1 - f)
                   x += o_proj(rms(g, g_norm, e) * silu(h[l]))
                   gate, up = split(gate_proj(rms(x, mlp_norm, e)));  x += down_proj(silu(gate) * up)
    logits = lm_head(rms(x, norm, e))

Source: the released implementation of arXiv 2406.02528; its outputs are in tests/data/mmfreelm-tiny/expected.npz.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np

from tritape.base.errors import TritapeError
from tritape.model.checkpoint import Checkpoint, TernaryLinear

BITLINEAR_EPS = 1e-6
"""The epsilon inside every BitLinear's own norm, whatever rms_norm_eps says."""

Ids = Sequence[int] | np.ndarray


@dataclass
class Recorder:
    """Running statistics of the signals of `FloatModel.run`, by name; subclass and override `add` to keep more.

    Names, with the shape of each array (n tokens): `embedding` [n, hidden] (residual at the start), `norm` [n, hidden]
    (final normed vector), `logits` [n, vocab], and for every layer L, [n, hidden] unless said otherwise:

    - `layers.L.i`, `.f`, `.g`: outputs of i_proj, f_proj (before sigma) and g_proj
    - `layers.L.h`, `.silu_h`: the recurrent state after the token, and its SiLU
    - `layers.L.o_in`: g * g_norm gain * silu(h), that is o_proj's input before the gate norm's division by the RMS
    - `layers.L.x_attn`, `.x_mlp`: the residual after each half of the layer
    - `layers.L.gate`, `.up`, `.m`: [n, intermediate]; the halves of gate_proj's output, and silu(gate) * up
    """

    max_abs: dict[str, float] = field(default_factory=dict)
    sum_squares: dict[str, float] = field(default_factory=dict)
    count: dict[str, int] = field(default_factory=dict)

    def add(self, name: str, array: np.ndarray) -> None:
        """Account for one non-empty array; the array is not kept and must not be changed."""
        self.max_abs[name] = max(self.max_abs.get(name, 0.0), float(np.abs(array).max()))
        self.sum_squares[name] = self.sum_squares.get(name, 0.0) + float(np.square(array).sum())
        self.count[name] = self.count.get(name, 0) + array.size

    def mean_square(self, name: str) -> float:
        """Mean of the squares of every value recorded under `name`."""
        return self.sum_squares[name] / self.count[name]


class FloatModel:
    """The float model of a checkpoint, with its recurrent state: float64, integer sums exact.

    `state` is float64 [layers, hidden], zero after `reset`. Ternary matrices are kept in float32 where the sums
    stay below 2^24 (127 * fan-in), which is exact and twice as fast, else in float64. `streamed`: every run reads the
    layers from the checkpoint one after the other and drops them, so that the memory is that of one layer.
    """

    def __init__(self, checkpoint: Checkpoint, *, streamed: bool = False) -> None:
        self.config = checkpoint.config
        self._checkpoint = checkpoint
        self._embeddings = checkpoint.tensor("model.embeddings.weight")
        self._norm = checkpoint.tensor("model.norm.weight").astype(np.float64)
        self._held = None if streamed else (list(self._layers()), self._head())
        self.reset()

    def _layers(self) -> Iterator[_Layer]:
        bounds = self._checkpoint.lower_bounds()
        for index in range(self.config.num_hidden_layers):
            yield _Layer(self._checkpoint, index, bounds[index])

    def _head(self) -> _BitLinear:
        return _BitLinear(self._checkpoint.bitlinear("lm_head"))

    def reset(self) -> None:
        """Zero the recurrent state: the next token starts a sequence."""
        self.state = np.zeros((self.config.num_hidden_layers, self.config.hidden_size))

    def step(self, token: int) -> np.ndarray:
        """Logits after one more token, float64 [vocab]."""
        return self.run([token])[0]

    def run(
        self, ids: Ids, record: Recorder | None = None, progress: Callable[[int], None] | None = None
    ) -> np.ndarray:
        """Logits after each of n more tokens, float64 [n, vocab]; continues from, and updates, the state.

        `progress(layers done)`. Raises TritapeError for a token outside the vocabulary.
        """
        tokens = check_ids(ids, self.config.vocab_size)
        if not len(tokens):
            return np.zeros((0, self.config.vocab_size))
        add = _ignore if record is None else record.add
        x = self._embeddings[tokens].astype(np.float64)
        add("embedding", x)
        for index, layer in enumerate(self._layers() if self._held is None else self._held[0]):
            x = layer.run(x, self.state[index], add)
            if progress is not None:
                progress(index + 1)
        x = rms(x, self._norm, self.config.rms_norm_eps)
        add("norm", x)
        logits = (self._head() if self._held is None else self._held[1])(x)
        add("logits", logits)
        return logits


class LanguageModel(Protocol):
    """What `perplexity` needs: any model, float or integer, that keeps its state between calls of `run`."""

    def reset(self) -> None: ...

    def run(self, ids: np.ndarray, /) -> np.ndarray: ...


def perplexity(
    model: LanguageModel, ids: Ids, chunk: int = 256, progress: Callable[[int, int], None] | None = None
) -> float:
    """exp of the mean negative log-likelihood (nats) of ids[1:], each given all before it; the model is reset first.

    `chunk` tokens are run at a time, which bounds the memory of the logits; `progress(done, total)` is called after
    each. Raises TritapeError for fewer than two tokens.
    """
    tokens = np.asarray(ids)
    total = len(tokens) - 1
    if total < 1:
        raise TritapeError(f"number of tokens must be at least 2, not {len(tokens)}; give a longer text")
    model.reset()
    loss = 0.0
    for start in range(0, total, chunk):
        stop = min(start + chunk, total)
        logits = np.asarray(model.run(tokens[start:stop]), np.float64)
        logits = logits - logits.max(axis=1, keepdims=True)
        picked = logits[np.arange(stop - start), tokens[start + 1 : stop + 1]]
        loss += float((np.log(np.exp(logits).sum(axis=1)) - picked).sum())
        if progress is not None:
            progress(stop, total)
    return math.exp(loss / total)


def check_ids(ids: Ids, vocab_size: int) -> np.ndarray:
    """`ids` as int64 [n]. Raises TritapeError unless they are integers from 0 to vocab_size - 1."""
    tokens = np.asarray(ids)
    if tokens.size == 0:
        return np.zeros(0, np.int64)
    if tokens.ndim != 1 or tokens.dtype.kind not in "iu":
        raise TritapeError(
            f"token ids must be a list of integers, not {tokens.dtype} of shape {list(tokens.shape)}; encode the text"
        )
    for bad in tokens[(tokens < 0) | (tokens >= vocab_size)][:1]:
        raise TritapeError(
            f"token id must be from 0 to {vocab_size - 1}, not {bad}; use the tokenizer of this checkpoint"
        )
    return tokens.astype(np.int64)


def rms(x: np.ndarray, gain: np.ndarray, eps: float) -> np.ndarray:
    """x / sqrt(mean(x^2) + eps) * gain over the last axis."""
    return x / np.sqrt(np.mean(np.square(x), axis=-1, keepdims=True) + eps) * gain


def sigmoid(a: np.ndarray) -> np.ndarray:
    """The logistic function, without overflow."""
    e = np.exp(-np.abs(a))
    return np.where(a >= 0, 1.0, e) / (1.0 + e)


def silu(a: np.ndarray) -> np.ndarray:
    """a * sigmoid(a)."""
    return a * sigmoid(a)


def round_half_away(a: np.ndarray) -> np.ndarray:
    """The nearest integer, halves away from zero, as a float array."""
    whole = np.trunc(a)
    return whole + np.where(np.abs(a - whole) >= 0.5, np.sign(a), 0.0)


def _ignore(name: str, array: np.ndarray) -> None:
    pass


class _BitLinear:
    """y [n, out] of x [n, in], as in the module's docstring."""

    def __init__(self, linear: TernaryLinear) -> None:
        exact = 128 * linear.weights.shape[1] < 1 << 24
        self._matrix = np.ascontiguousarray(linear.weights.T, np.float32 if exact else np.float64)
        self._scale = linear.scale
        self._gain = linear.gain

    def __call__(self, x: np.ndarray) -> np.ndarray:
        xn = rms(x, self._gain, BITLINEAR_EPS)
        s = 127.0 / np.maximum(np.abs(xn).max(axis=-1, keepdims=True), 1e-5)
        q = np.clip(round_half_away(xn * s), -128, 127)
        return (q.astype(self._matrix.dtype) @ self._matrix).astype(np.float64) * self._scale / s


class _Layer:
    """One block: token mixer (MLGRU) and channel mixer (gated linear unit), both added to the residual."""

    def __init__(self, checkpoint: Checkpoint, index: int, bound: np.ndarray) -> None:
        prefix = f"model.layers.{index}"

        def gain(name: str) -> np.ndarray:
            return checkpoint.tensor(f"{prefix}.{name}.weight").astype(np.float64)

        def linear(name: str) -> _BitLinear:
            return _BitLinear(checkpoint.bitlinear(f"{prefix}.{name}"))

        self._name = f"layers.{index}"
        self._eps = checkpoint.config.rms_norm_eps
        self._bound = bound  # zero, that is no bound, in layer 0 and without use_lower_bound
        self._attn_norm, self._g_norm, self._mlp_norm = gain("attn_norm"), gain("attn.g_norm"), gain("mlp_norm")
        self._i, self._f = linear("attn.i_proj"), linear("attn.f_proj")
        self._g, self._o = linear("attn.g_proj"), linear("attn.o_proj")
        self._gate, self._down = linear("mlp.gate_proj"), linear("mlp.down_proj")

    def run(self, x: np.ndarray, state: np.ndarray, add: Callable[[str, np.ndarray], None]) -> np.ndarray:
        """x [n, hidden] after this block; `state` [hidden] is updated in place, `add` gets the recorder's arrays."""
        name = self._name
        n = rms(x, self._attn_norm, self._eps)
        i, f, g = self._i(n), self._f(n), self._g(n)
        for key, array in (("i", i), ("f", f), ("g", g)):
            add(f"{name}.{key}", array)
        f = self._bound + (1.0 - self._bound) * sigmoid(f)
        h = silu(i) * (1.0 - f)
        for t in range(len(h)):
            h[t] += f[t] * (h[t - 1] if t else state)
        state[:] = h[-1]
        gated = silu(h)
        add(f"{name}.h", h)
        add(f"{name}.silu_h", gated)
        if add is not _ignore:
            add(f"{name}.o_in", g * self._g_norm * gated)
        x = x + self._o(rms(g, self._g_norm, self._eps) * gated)
        add(f"{name}.x_attn", x)
        gate, up = np.split(self._gate(rms(x, self._mlp_norm, self._eps)), 2, axis=1)
        m = silu(gate) * up
        for key, array in (("gate", gate), ("up", up), ("m", m)):
            add(f"{name}.{key}", array)
        x = x + self._down(m)
        add(f"{name}.x_mlp", x)
        return x
