"""Weights of other precisions in the same model: binary, ternary, int4 and float, trained or after training.

| precision | values | scale |
|---|---|---|
| binary | sign(W) | mean of abs W |
| ternary | clip(round(W / s), -1, 1) | s = mean of abs W |
| int4 | clip(round(W / s), -7, 7) | s = largest abs of the row / 7 |
| float | W | - |

Gradients pass straight through. Activations stay int8 except under float.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tritape.base.errors import TritapeError
from tritape.model.checkpoint import MIN_WEIGHT_SCALE
from tritape.train.plain import BitLinear, straight_int8, straight_ternary


def straight_binary(weight: Tensor) -> Tensor:
    """sign(W) * mean|W| (zero counts as positive); the gradient is W's."""
    scale = weight.detach().abs().mean().clamp(min=MIN_WEIGHT_SCALE)
    return weight + (torch.where(weight >= 0, scale, -scale) - weight).detach()


def straight_int4(weight: Tensor) -> Tensor:
    """Symmetric four-bit weights with a scale a row; the gradient is W's."""
    scale = weight.detach().abs().amax(1, keepdim=True).clamp(min=MIN_WEIGHT_SCALE) / 7
    return weight + ((weight / scale).round().clamp(-7, 7) * scale - weight).detach()


QUANTISERS: dict[str, Callable[[Tensor], Tensor]] = {
    "binary": straight_binary,
    "ternary": straight_ternary,
    "int4": straight_int4,
    "float": lambda weight: weight,
}
"""What each precision makes of a latent weight matrix."""


class PrecisionLinear(BitLinear):
    """A BitLinear whose weights have the precision of `QUANTISERS[precision]`."""

    precision: str

    def forward(self, x: Tensor) -> Tensor:
        x = self.norm(x)
        return F.linear(x if self.precision == "float" else straight_int8(x), QUANTISERS[self.precision](self.weight))


def set_precision(model: nn.Module, precision: str) -> None:
    """Give every BitLinear of a model another weight precision, in place; its latent weights stay.

    Raises TritapeError for a name that is not in `QUANTISERS`.
    """
    if precision not in QUANTISERS:
        raise TritapeError(f"precision must be one of {', '.join(QUANTISERS)}, not {precision!r}; choose one")
    for module in model.modules():
        if isinstance(module, BitLinear):
            module.__class__ = PrecisionLinear
            setattr(module, "precision", precision)  # noqa: B010 - the type checker knows only the old class
