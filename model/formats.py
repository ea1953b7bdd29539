"""Calibration: a float checkpoint becomes the integers of the tape, with fixed-point formats picked from real activations.

Per model: fraction bits of residual and logits. Per layer: the shifts of the two gated products and the epsilons, from a
calibration run of the integer model itself, layer by layer. A model too large to hold is streamed: one pass over the
checkpoint for the float model, one for the integer model, each with the weights of one layer at a time; its weights are made
again when the tape is written. Source: docs/contract.md.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial

import numpy as np
from numpy.typing import NDArray

from tritape.base.errors import TritapeError
from tritape.model import arith
from tritape.model.arith import Ints
from tritape.model.checkpoint import Checkpoint, TernaryLinear
from tritape.model.config import ModelConfig
from tritape.model.golden import IntegerModel
from tritape.model.quality import Quality, compare, score
from tritape.model.quantised import (
    PROJECTIONS,
    RESIDENT_WEIGHTS,
    Layer,
    Projection,
    QuantisedModel,
    StreamedLayers,
    source_tensor,
    without_weights,
)
from tritape.model.reference import BITLINEAR_EPS, FloatModel, Recorder
from tritape.model.tape.layout import ternary_weights
from tritape.model.weights import EMBEDDINGS

MARGIN = 2.0
"""Room above the largest value that calibration saw, in every format."""
MAX_RESIDUAL_FRACTION = 16
MAX_LOGIT_FRACTION = 13
GAIN_MAX = 32767
EPS_MAX = (1 << 48) - 1
CALIBRATION_TOKENS = 192
HEAD_ROWS = 16
"""Tokens that pass the head together when it is compared with the float model's."""


def calibration_ids(checkpoint: Checkpoint, tokens: int = CALIBRATION_TOKENS, seed: int = 1) -> list[int]:
    """Token ids [tokens] to calibrate on: a third uniformly random, then the float model's own samples.

    A streamed model would be read once for every sample, so its ids are all random; text of its own (`tritape pack
    --text`) is better.
    """
    vocab = checkpoint.config.vocab_size
    rng = np.random.default_rng(seed)
    if is_streamed(checkpoint.config):
        return rng.integers(0, vocab, tokens).tolist()
    model = FloatModel(checkpoint)
    ids = rng.integers(0, vocab, max(tokens // 3, 1)).tolist()
    logits = model.run(ids)[-1]
    while len(ids) < tokens:
        noise = rng.gumbel(size=vocab)
        ids.append(int(np.argmax(logits + noise)))
        logits = model.step(ids[-1])
    return ids


def is_streamed(config: ModelConfig) -> bool:
    """Whether a model of this shape is too large to be held whole."""
    return ternary_weights(config) > RESIDENT_WEIGHTS


def quantise_model(
    checkpoint: Checkpoint,
    ids: Sequence[int] | None = None,
    progress: Callable[[int, int], None] | None = None,
    quality: Callable[[Quality | None], None] | None = None,
) -> QuantisedModel:
    """Integers of a checkpoint, calibrated on `ids` (default `calibration_ids`); `progress(layers done, layers)`, each
    layer counted twice when streamed: in the float and in the integer model. `quality` is told at the end how the two agree on
    the calibration text, which both have run by then: on the part of it that a model wrote where it is the default.

    Raises TritapeError where a width or a scale has no fixed-point form within the contract's limits.
    """
    config = checkpoint.config
    streamed = is_streamed(config)
    count = config.num_hidden_layers
    tell = progress or (lambda done, total: None)
    own_text = CALIBRATION_TOKENS // 3 if ids is None and not streamed else 0
    ids = calibration_ids(checkpoint) if ids is None else list(ids)
    record = Recorder()
    first_pass = (lambda done: tell(done, 2 * count)) if streamed else None
    floats = score(FloatModel(checkpoint, streamed=streamed).run(ids, record, first_pass), ids)
    largest = max(v for name, v in record.max_abs.items() if name == "embedding" or ".x_" in name)
    span = max(max(float(np.abs(part).max()) for _, part in checkpoint.row_blocks(EMBEDDINGS)), 1e-30)
    fraction = min(
        _fraction(largest, MAX_RESIDUAL_FRACTION, f"{checkpoint.name}: residual"),
        math.floor(math.log2(65535 * 127 / 256 / span)),
    )
    logit_fraction = _fraction(record.max_abs["logits"], MAX_LOGIT_FRACTION, f"{checkpoint.name}: logits")
    codes = np.empty((config.vocab_size, config.hidden_size), np.int8)
    for start, part in checkpoint.row_blocks(EMBEDDINGS):
        codes[start : start + len(part)] = np.clip(np.round(part.astype(np.float64) / span * 127), -127, 127)
    multiplier = round(span / 127 * 2.0 ** (fraction + 8))
    x = arith.embed(codes[np.asarray(ids)].astype(np.int64), multiplier)

    bounds = np.round(checkpoint.lower_bounds() * arith.SIGMA_ONE).astype(np.int64)
    layers: list[Layer] = []
    model = QuantisedModel(
        config, codes, multiplier, layers, _placeholder(), fraction, logit_fraction, checkpoint.sha256
    )
    runner = IntegerModel(model)
    for index in range(count):
        layer, x = _calibrate_layer(checkpoint, index, bounds[index], x, fraction, runner)
        layers.append(without_weights(layer) if streamed else layer)
        tell(index + 1 + count * streamed, count + count * streamed)
    del runner, layer
    first = checkpoint.tensor("model.norm.weight").astype(np.float64)
    head = _projection(
        checkpoint.bitlinear("lm_head"), first, logit_fraction, _block_eps(x, first, fraction, config.rms_norm_eps)
    )
    if quality is not None:
        quality(compare(floats, score(_head_logits(replace(model, head=head), x), ids), own_text))
    weights = partial(_layer_weights, checkpoint)
    return replace(model, head=head, layers=StreamedLayers(layers, weights) if streamed else layers)


def _head_logits(model: QuantisedModel, x: Ints) -> NDArray[np.float64]:
    """Logits [n, vocab] of the last layer's residuals [n, hidden], as real numbers."""
    runner, head = IntegerModel(model), model.head
    logits = np.empty((len(x), model.config.vocab_size))
    for start in range(0, len(x), HEAD_ROWS):  # what is on the way to logits takes several times their memory
        part = runner.prepare(head, x[start : start + HEAD_ROWS], None, None, "")
        logits[start : start + HEAD_ROWS] = runner.scaled(head, part, None, "")
    return logits * 2.0**-model.logit_fraction


def _layer_weights(checkpoint: Checkpoint, index: int, name: str) -> NDArray[np.int8]:
    """Weights of one projection of a layer in tape row order: gate and up rows alternate."""
    weights = checkpoint.ternary(source_tensor(f"layers.{index}.{name}"))
    if name != "gate":
        return weights
    rows = np.empty_like(weights)
    rows[0::2], rows[1::2] = np.split(weights, 2)
    return rows


def _calibrate_layer(
    checkpoint: Checkpoint, index: int, bound: Ints, x: Ints, fraction: int, runner: IntegerModel
) -> tuple[Layer, Ints]:
    """The layer's integers, and the residual [n, hidden] after it."""
    prefix = f"model.layers.{index}"
    eps = checkpoint.config.rms_norm_eps
    linear = {}
    for name in PROJECTIONS:
        source = source_tensor(f"layers.{index}.{name}")
        weights = _layer_weights(checkpoint, index, name)
        linear[name] = TernaryLinear(weights, checkpoint.scale(source), checkpoint.gain(source))
    attn, g_norm, mlp = (
        checkpoint.tensor(f"{prefix}.{name}.weight").astype(np.float64)
        for name in ("attn_norm", "attn.g_norm", "mlp_norm")
    )
    pre = arith.PRE_FRACTION
    block = _block_eps(x, attn, fraction, eps)
    projections = {
        "i": _projection(linear["i"], attn, pre, block),
        "f": _projection(linear["f"], attn, pre, block, keep=True),
        "g": _projection(linear["g"], attn, pre, block, keep=True),
        "o": _projection(linear["o"], g_norm, fraction, 0),
        "gate": _projection(linear["gate"], mlp, pre, block),
        "down": _projection(linear["down"], None, fraction, 0),
    }
    shifts: dict[str, int] = {}

    def choose(name: str, products: Ints) -> int:
        largest = int(np.abs(products).max()) * MARGIN
        shifts[name] = shift = max(0, math.ceil(math.log2(max(largest, 1) / arith.VALUE_MAX)))
        return shift

    # First pass: shifts. The epsilons of o and down need them, and change the residual by less than a rounding.
    layer = Layer(projections, bound, 0, 0)
    runner.state[index] = 0
    runner.run_layer(index, layer, x, choose_shift=choose)
    runner.state[index] = 0
    g = runner.prepare(projections["g"], x, runner.prepare(projections["i"], x, None, None, "").square_sum, None, "")
    raw = runner.raw(projections["g"], g, None, "")
    product_unit = 2.0 ** (shifts["o"] - pre)
    projections["o"] = replace(
        projections["o"],
        eps=_eps(raw.shape[1] * BITLINEAR_EPS * float(np.mean(np.square(raw))) / (product_unit * _span(g_norm)) ** 2),
    )
    scale = np.median(g.mantissa * 2.0 ** -(g.shift + pre))
    scale *= linear["gate"].scale / linear["g"].scale  # of the same order: only the tiny epsilon of down depends on it
    product_unit = 2.0 ** (shifts["m"] - pre) * max(float(scale), 1e-30)
    k = linear["down"].weights.shape[1]
    projections["down"] = replace(projections["down"], eps=_eps(k * BITLINEAR_EPS / product_unit**2))
    layer = Layer(projections, bound, shifts["o"], shifts["m"])
    return layer, runner.run_layer(index, layer, x)


def _projection(
    linear: TernaryLinear, first: np.ndarray | None, fraction: int, eps: int, keep: bool = False
) -> Projection:
    """Integers of one BitLinear behind a norm of gain `first` (None: no norm before its own), output `fraction` bits."""
    k = linear.weights.shape[1]
    if k > 16384:
        raise TritapeError(f"width of a BitLinear must be at most 16384, not {k}; such a model is not supported")
    g1 = np.ones(k) if first is None else first
    g12 = g1 * linear.gain
    constant = linear.scale / 127 * _span(g12) / _span(g1) * math.sqrt(k) * 2.0**fraction
    exponent = math.floor(math.log2(constant)) - 15
    mantissa = round(constant * 2.0**-exponent)
    if mantissa == 1 << 16:
        mantissa, exponent = mantissa >> 1, exponent + 1
    if not -128 <= exponent <= 127:
        raise TritapeError(
            f"scale of a BitLinear must be within 2^-113 and 2^142, not {constant!r}; check the checkpoint"
        )
    return Projection(linear.weights, None if keep else _gain(g1), _gain(g12), eps, mantissa, exponent)


def _span(gain: np.ndarray) -> float:
    """The real value of a gain integer of 32768."""
    largest = float(np.abs(gain).max())
    return (largest if largest > 0 else 1.0) * (GAIN_MAX + 1) / GAIN_MAX


def _gain(gain: np.ndarray) -> Ints:
    return np.round(gain / _span(gain) * (GAIN_MAX + 1)).astype(np.int64)


def _block_eps(x: Ints, gain: np.ndarray, fraction: int, eps: float) -> int:
    """The epsilon of a BitLinear behind a block norm, in units of A, for residuals like x [n, K]."""
    mean = float(np.mean(np.square(x))) + eps * 4.0**fraction
    return _eps(x.shape[1] * BITLINEAR_EPS * mean / _span(gain) ** 2)


def _eps(value: float) -> int:
    return min(round(value), EPS_MAX)


def _fraction(largest: float, most: int, what: str) -> int:
    """Most fraction bits with which `largest` times the margin fits a value."""
    fraction = min(most, math.floor(math.log2(arith.VALUE_MAX / (max(largest, 1e-30) * MARGIN))))
    if fraction < 0:
        raise TritapeError(
            f"{what} must stay below {arith.VALUE_MAX / MARGIN:.0f}, not {largest:.4g}; rescale the checkpoint"
        )
    return fraction


def _placeholder() -> Projection:
    return Projection(np.zeros((0, 0), np.int8), None, np.zeros(0, np.int64), 0, 0, 0)
