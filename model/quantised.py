"""The integer form of a checkpoint: every constant that the tape carries and the golden model computes with.

Made by `tritape.model.formats.quantise_model`, or read back from a tape by `tritape.model.tape.reader`.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from tritape.model.arith import Ints
from tritape.model.checkpoint import ModelConfig

PROJECTIONS = ("i", "f", "g", "o", "gate", "down")
"""The BitLinears of a layer in tape order. `gate` has 2 * intermediate rows, gate and up rows alternating."""


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


@dataclass(frozen=True, eq=False)
class QuantisedModel:
    """A whole model in integers.

    embedding: int8 [vocab, hidden] with one unsigned 16-bit `multiplier`; residual_fraction and logit_fraction: the
    fraction bits of residual and logits, chosen by calibration. sha256: of the checkpoint it came from.
    """

    config: ModelConfig
    embedding: NDArray[np.int8]
    multiplier: int
    layers: list[Layer]
    head: Projection
    residual_fraction: int
    logit_fraction: int
    sha256: str = ""
    notes: dict[str, object] = field(default_factory=dict)
