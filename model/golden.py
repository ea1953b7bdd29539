"""The integer golden model: what the hardware must equal bit for bit, at every unit and for whole tokens.

Composes the unit functions of `tritape.model.arith` in the order of docs/contract.md. Source: that page and numerics of
the released `hgrn_bit` code; never derived from the RTL.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from tritape.model import arith
from tritape.model.arith import Ints
from tritape.model.quantised import RESIDENT_WEIGHTS, Layer, Projection, QuantisedModel
from tritape.model.reference import check_ids

UNITS = ("activation", "row", "value", "vector", "logit")
"""Units whose outputs a trace holds, as the accelerator's probes see them: quantised activations, saturated row sums,
values as they leave the dequantiser, elements as the residual unit writes them, logits."""


@dataclass
class Trace:
    """Every element that a unit put out during one token, in the order of the computation: (unit, label, int array)."""

    entries: list[tuple[str, str, Ints]] = field(default_factory=list)

    def add(self, unit: str, label: str, values: Ints) -> None:
        """Append the outputs [1, n] of `unit` for the operation called `label`."""
        self.entries.append((unit, label, values[0]))

    def flat(self, unit: str) -> Ints:
        """All elements of a unit in order, int64."""
        parts = [values for name, _, values in self.entries if name == unit]
        return np.concatenate(parts) if parts else np.zeros(0, np.int64)

    def first_difference(self, seen: Mapping[str, Ints], engines: int = 1) -> str | None:
        """What the earliest differing operation is, given what each unit of `seen` really put out, slice by slice of
        `engines` lanes; None when equal. Reads like `row layers.0.i[17] must be -312, not -311`.
        """
        position = dict.fromkeys(seen, 0)
        for unit, label, values in self.entries:
            if unit not in seen:
                continue
            lanes = 1 if unit == "logit" else engines
            places = _tape_order(len(values), lanes, label.endswith(".gate") and unit in ("row", "value"))
            start = position[unit]
            position[unit] += -(-(int(places.max()) + 1) // lanes) * lanes
            found = np.asarray(seen[unit][start : position[unit]])
            found = found[places[places < len(found)]]
            differing = np.flatnonzero(values[: len(found)] != found)
            if len(differing):
                at = int(differing[0])
                return f"{unit} {label}[{at}] must be {values[at]}, not {found[at]}"
            if len(found) < len(values):
                return f"{unit} {label}[{len(found)}] must be {values[len(found)]}, not missing"
        for unit, end in position.items():
            if len(seen[unit]) > end:
                return f"{unit} must have {end} elements, not {len(seen[unit])}"
        return None


def _tape_order(count: int, engines: int, pairs: bool) -> Ints:
    """Where each of `count` elements comes in the fabric's order: slices of `engines` elements; gates and ups, which
    alternate in the model, come in alternating slices."""
    places = np.arange(count)
    if not pairs:
        return places
    pair, up = places // 2, places % 2
    return pair // engines * 2 * engines + up * engines + pair % engines


@dataclass
class Prepared:
    """A vector made ready for one projection: q int [n, K]; scale mantissa and shift, int [n, 1]; A, a list [n]."""

    q: Ints
    mantissa: Ints
    shift: Ints
    square_sum: list[int]


class IntegerModel:
    """Runs tokens in integers. `state` is int64 [layers, hidden]; `saturations` counts clamps by unit since `reset`.

    `run` continues from the state, like `FloatModel.run`; 2,000 tokens of the default model take a few seconds because
    all tokens pass a layer together and only the recurrence goes step by step.
    """

    def __init__(self, model: QuantisedModel) -> None:
        self.model = model
        self.config = model.config
        self._matrices: dict[int, tuple[NDArray[np.int8], NDArray[np.float32]]] = {}
        self.reset()

    def reset(self) -> None:
        """Zero the recurrent state and the saturation counters."""
        self.state = np.zeros((self.config.num_hidden_layers, self.config.hidden_size), dtype=np.int64)
        self.saturations = {"rows": 0, "dequantiser": 0, "mlgru": 0, "mixer": 0, "residual": 0}

    def run(self, ids: Sequence[int] | np.ndarray) -> NDArray[np.float64]:
        """Logits [n, vocab] as real numbers (integer logits times 2^-logit_fraction)."""
        return self.run_integer(ids) * np.float64(2.0**-self.model.logit_fraction)

    def step(self, token: int, trace: Trace | None = None) -> Ints:
        """Integer logits [vocab] after one more token."""
        return self.run_integer([token], trace)[0]

    def run_integer(self, ids: Sequence[int] | np.ndarray, trace: Trace | None = None) -> Ints:
        """Integer logits [n, vocab]; with a trace, n must be 1. Raises TritapeError for ids outside the vocabulary."""
        tokens = check_ids(ids, self.config.vocab_size)
        x = arith.embed(self.model.embedding[tokens].astype(np.int64), self.model.multiplier)
        _note(trace, "vector", "embedding", x)
        for index, layer in enumerate(self.model.layers):
            x = self.run_layer(index, layer, x, trace)
        head = self.prepare(self.model.head, x, None, trace, "head")
        logits = self.scaled(self.model.head, head, trace, "head")
        _note(trace, "logit", "head", logits)
        return logits

    def run_layer(
        self,
        index: int,
        layer: Layer,
        x: Ints,
        trace: Trace | None = None,
        choose_shift: Callable[[str, Ints], int] | None = None,
    ) -> Ints:
        """Residual [n, hidden] after block `index`. `choose_shift(name, products)` overrides o_shift and m_shift
        (names `o`, `m`) from the unshifted products: that is how calibration picks them."""
        name = f"layers.{index}"
        projections = layer.projections
        i = self.prepare(projections["i"], x, None, trace, f"{name}.i")
        candidate = arith.silu(self.scaled(projections["i"], i, trace, f"{name}.i"))
        f = self.prepare(projections["f"], x, i.square_sum, trace, f"{name}.f")
        forget = arith.forget_gate(self.scaled(projections["f"], f, trace, f"{name}.f"), layer.lower_bound[None, :])
        h = np.empty_like(candidate)
        state = self.state[index]
        for t in range(len(h)):
            h[t] = state = arith.recur(forget[t], state, candidate[t])
        self.state[index] = state
        g = self.prepare(projections["g"], x, i.square_sum, trace, f"{name}.g")
        raw = self.raw(projections["g"], g, trace, f"{name}.g")
        _note(trace, "value", f"{name}.g", raw)
        o = self.product("mlgru", raw, arith.silu(h), layer.o_shift, "o", choose_shift)
        _note(trace, "vector", f"{name}.o", o)
        x = self.residual(
            x, projections["o"], self.prepare(projections["o"], o, None, trace, f"{name}.o"), trace, name, "o"
        )

        gate = self.prepare(projections["gate"], x, None, trace, f"{name}.gate")
        raw = self.raw(projections["gate"], gate, trace, f"{name}.gate")
        y = self.saturate("dequantiser", arith.rescale(raw[:, 0::2], gate.mantissa, gate.shift))
        if trace is not None:
            both = raw.copy()
            both[:, 0::2] = y
            trace.add("value", f"{name}.gate", both)
        m = self.product("mixer", raw[:, 1::2], arith.silu(y), layer.m_shift, "m", choose_shift)
        _note(trace, "vector", f"{name}.m", m)
        down = self.prepare(projections["down"], m, None, trace, f"{name}.down")
        return self.residual(x, projections["down"], down, trace, name, "down")

    def prepare(
        self, projection: Projection, x: Ints, kept: list[int] | None, trace: Trace | None, label: str
    ) -> Prepared:
        """Norm and quantiser: q, S, shift and A of x [n, K] for one projection; `kept` is A to keep."""
        u = arith.apply_gain(x, projection.gain_product)
        if projection.gain_first is not None:
            v = arith.apply_gain(x, projection.gain_first)
            square_sum = np.einsum("nk,nk->n", v, v).tolist()
        else:
            assert kept is not None, "the first projection of a block cannot keep a mean square"
            square_sum = kept
        maximum = np.abs(u).max(axis=1).tolist()
        reciprocals = np.array([arith.reciprocal(m) for m in maximum], dtype=np.int64)
        scales = np.array(
            [
                arith.scale(m, a, projection.eps, projection.mantissa, projection.exponent)
                for m, a in zip(maximum, square_sum, strict=True)
            ],
            dtype=np.int64,
        )
        q = arith.quantise(u, reciprocals[:, :1], reciprocals[:, 1:])
        _note(trace, "activation", label, q)
        return Prepared(q, scales[:, :1], scales[:, 1:], square_sum)

    def raw(self, projection: Projection, prepared: Prepared, trace: Trace | None, label: str) -> Ints:
        """Saturated row sums [n, rows]."""
        raw = self.saturate("rows", arith.row_sums(self._matrix(projection.weights), prepared.q))
        _note(trace, "row", label, raw)
        return raw

    def _matrix(self, weights: NDArray[np.int8]) -> NDArray[np.float32]:
        """The weights as float32, made once while `RESIDENT_WEIGHTS` suffice; the int8 array is kept beside it so that its
        id stays its own. The oldest go first: a streamed model's weights never come back."""
        entry = self._matrices.get(id(weights))
        if entry is None:
            held = sum(kept.size for kept, _ in self._matrices.values())
            while self._matrices and held + weights.size > RESIDENT_WEIGHTS:
                oldest = next(iter(self._matrices))
                held -= self._matrices.pop(oldest)[0].size
            entry = self._matrices[id(weights)] = (weights, weights.astype(np.float32))
        return entry[1]

    def scaled(self, projection: Projection, prepared: Prepared, trace: Trace | None, label: str) -> Ints:
        """Dequantised row sums [n, rows]."""
        raw = self.raw(projection, prepared, trace, label)
        y = self.saturate("dequantiser", arith.rescale(raw, prepared.mantissa, prepared.shift))
        _note(trace, "value", label, y)
        return y

    def product(
        self,
        unit: str,
        raw: Ints,
        factor: Ints,
        shift: int,
        name: str,
        choose_shift: Callable[[str, Ints], int] | None,
    ) -> Ints:
        """Gated product of raw row sums, shifted and saturated."""
        if choose_shift is not None:
            shift = choose_shift(name, raw * factor)
        return self.saturate(unit, arith.rescale(raw, factor, shift))

    def residual(
        self, x: Ints, projection: Projection, prepared: Prepared, trace: Trace | None, name: str, which: str
    ) -> Ints:
        """x plus the projection's output, saturated."""
        y = self.scaled(projection, prepared, trace, f"{name}.{which}")
        x = self.saturate("residual", x + y)
        _note(trace, "vector", f"{name}.x_{which}", x)
        return x

    def saturate(self, unit: str, values: Ints) -> Ints:
        """sat18, counting the clamps of `unit`."""
        self.saturations[unit] += arith.count_saturated(values)
        return arith.sat18(values)


def golden_tokens(
    model: QuantisedModel, prompt: Sequence[int], count: int, inverse: int = 0, seed: int = 0
) -> list[int]:
    """The `count` tokens that a device must generate behind `prompt`: greedy, or with an inverse temperature (u17, as
    TEMPERATURE carries it) and the generator's first state (u32, 0: its default)."""
    run, state, tokens = IntegerModel(model), seed or arith.XORSHIFT_DEFAULT, list(prompt)
    for place in range(len(prompt) + count - 1):
        chosen, state = arith.choose(run.step(tokens[place]), inverse, state)
        if place >= len(prompt) - 1:
            tokens.append(chosen)
    return tokens[len(prompt) :]


def _note(trace: Trace | None, unit: str, label: str, values: Ints) -> None:
    if trace is not None:
        trace.add(unit, label, values)
