"""The integer form of a checkpoint: every constant that the tape carries and the golden model computes with.

Made by `tritape.model.formats.quantise_model`, or read back from a tape by `tritape.model.tape.reader`.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import overload

import numpy as np
from numpy.typing import NDArray

from tritape.model.arith import Ints
from tritape.model.config import ModelConfig

RESIDENT_WEIGHTS = 1 << 27
"""Ternary weights of the largest model that is held whole; a larger one is streamed from its checkpoint or tape, layer by
layer, in every pass."""
PROJECTIONS = ("i", "f", "g", "o", "gate", "down")
"""The BitLinears of a layer in tape order. `gate` has 2 * intermediate rows, gate and up rows alternating."""


def source_tensor(what: str) -> str:
    """Name in the checkpoint, without `.weight`, of the projection called `what`: `head`, or `layers.L.i` and so on."""
    if what == "head":
        return "lm_head"
    _, layer, name = what.split(".")
    return f"model.layers.{layer}.{'mlp' if name in ('gate', 'down') else 'attn'}.{name}_proj"


def source_row(what: str, rows: int) -> tuple[str, NDArray[np.int64]]:
    """(tensor, its row for each of the `rows` in tape order) of the projection called `what`."""
    order = np.arange(rows)
    if what.endswith(".gate"):
        order = order % 2 * (rows // 2) + order // 2
    return f"{source_tensor(what)}.weight", order


@dataclass(frozen=True, eq=False)
class Projection:
    """One BitLinear with the norms in front of it.

    weights: int8 [rows, K] of -1, 0, 1 in tape row order. gain_first: int [K] (g1), or None to keep the mean square
    of the projection before. gain_product: int [K] (g12). eps, mantissa (Cm), exponent (Ce): docs/contract.md.
    """

    weights: NDArray[np.int8]
    gain_first: Ints | None
    gain_product: Ints
    eps: int
    mantissa: int
    exponent: int


@dataclass(frozen=True, eq=False)
class Layer:
    """One block: its projections by name (`PROJECTIONS`), lower bound int [hidden] (0..32768) and product shifts."""

    projections: dict[str, Projection]
    lower_bound: Ints
    o_shift: int
    m_shift: int


def without_weights(layer: Layer) -> Layer:
    """The layer's constants alone; its weights are of shape [0, K]."""
    return replace(
        layer, projections={name: replace(p, weights=p.weights[:0].copy()) for name, p in layer.projections.items()}
    )


class StreamedLayers(Sequence[Layer]):
    """Layers of a model too large to hold: their weights are made when a layer is asked for, and kept for two layers.

    constants: the layers with everything but their weights; weights(layer, projection): int8 [rows, K] of one
    projection, in tape row order. Two, because a tape carries the constants of a layer inside the layer before.
    """

    KEPT = 2

    def __init__(self, constants: Sequence[Layer], weights: Callable[[int, str], NDArray[np.int8]]) -> None:
        self._constants = constants
        self._weights = weights
        self._kept: OrderedDict[int, Layer] = OrderedDict()

    def __len__(self) -> int:
        return len(self._constants)

    @overload
    def __getitem__(self, index: int) -> Layer: ...

    @overload
    def __getitem__(self, index: slice) -> list[Layer]: ...

    def __getitem__(self, index: int | slice) -> Layer | list[Layer]:
        if isinstance(index, slice):
            return [self[i] for i in range(*index.indices(len(self)))]
        index = range(len(self))[index]
        if index not in self._kept:
            while len(self._kept) >= self.KEPT:
                self._kept.popitem(last=False)
            plain = self._constants[index]
            whole = {name: replace(p, weights=self._weights(index, name)) for name, p in plain.projections.items()}
            self._kept[index] = replace(plain, projections=whole)
        self._kept.move_to_end(index)
        return self._kept[index]


@dataclass(frozen=True, eq=False)
class QuantisedModel:
    """A whole model in integers.

    layers: a list, or `StreamedLayers` for a large model. embedding: int8 [vocab, hidden] with one unsigned 16-bit
    `multiplier`; residual_fraction and logit_fraction: the fraction bits of residual and logits, chosen by calibration.
    sha256: of the checkpoint it came from.
    """

    config: ModelConfig
    embedding: NDArray[np.int8]
    multiplier: int
    layers: Sequence[Layer]
    head: Projection
    residual_fraction: int
    logit_fraction: int
    sha256: str = ""
    notes: dict[str, object] = field(default_factory=dict)
