"""Weights of other precisions in the same model: binary, ternary, sparse4, int4 and float, trained or after training.

| precision | values | scale |
|---|---|---|
| binary | sign(W) | mean of abs W |
| ternary | clip(round(W / s), -1, 1) | s = mean of abs W |
| sparse4 | 0 for the smallest of each four of a row, sign(W) for the others | mean of abs W of the others |
| int4 | clip(round(W / s), -7, 7) | s = largest abs of the row / 7 |
| float | W | - |

Gradients pass straight through. Activations stay int8 except under float.

sparse4 is ternary with exactly one zero in each four consecutive weights of a row: 1.25 bits a weight. Of equal
magnitudes the first becomes zero, and a zero that is kept counts as positive. The last one to three weights of a row
whose length is no multiple of four are all kept: the zero of their four lies in the padding. Source: arXiv 2601.07892.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tritape.base.errors import TritapeError
from tritape.model.checkpoint import MIN_WEIGHT_SCALE
from tritape.train.plain import BitLinear, straight_int8, straight_ternary

Residual = Literal["latent", "ternary"]
"""What a residual adds during training, times its factor r: `latent` r W; `ternary` r (ternary(W) - Q(W))."""


def straight_binary(weight: Tensor) -> Tensor:
    """sign(W) * mean|W| (zero counts as positive); the gradient is W's."""
    scale = weight.detach().abs().mean().clamp(min=MIN_WEIGHT_SCALE)
    return weight + (torch.where(weight >= 0, scale, -scale) - weight).detach()


def straight_int4(weight: Tensor) -> Tensor:
    """Symmetric four-bit weights with a scale a row; the gradient is W's."""
    scale = weight.detach().abs().amax(1, keepdim=True).clamp(min=MIN_WEIGHT_SCALE) / 7
    return weight + ((weight / scale).round().clamp(-7, 7) * scale - weight).detach()


def sparse4(weight: Tensor) -> tuple[Tensor, Tensor]:
    """(T, scale) of a latent matrix [out, in]: T in -1, 0, 1 with one zero in each four of a row, scale a scalar."""
    rows, columns = weight.shape
    padded = F.pad(weight.detach().abs(), (0, -columns % 4), value=-1.0).view(rows, -1, 4)  # padding is always smallest
    kept = torch.ones_like(padded).scatter(-1, padded.argmin(-1, keepdim=True), 0.0).view(rows, -1)[:, :columns]
    scale = ((weight.detach().abs() * kept).sum() / kept.sum()).clamp(min=MIN_WEIGHT_SCALE)
    return torch.where(weight.detach() >= 0, kept, -kept), scale


def straight_sparse4(weight: Tensor) -> Tensor:
    """T * scale of `sparse4`; the gradient is W's."""
    values, scale = sparse4(weight)
    return weight + (values * scale - weight).detach()


QUANTISERS: dict[str, Callable[[Tensor], Tensor]] = {
    "binary": straight_binary,
    "ternary": straight_ternary,
    "sparse4": straight_sparse4,
    "int4": straight_int4,
    "float": lambda weight: weight,
}
"""What each precision makes of a latent weight matrix."""


class PrecisionLinear(BitLinear):
    """A BitLinear whose weights have the precision of `QUANTISERS[precision]`.

    In training mode a residual, if `set_residual` gave one, is added to them.
    """

    precision: str
    residual: Tensor | None = None
    residual_kind: Residual = "latent"

    def forward(self, x: Tensor) -> Tensor:
        x = self.norm(x)
        return F.linear(x if self.precision == "float" else straight_int8(x), self._weights())

    def _weights(self) -> Tensor:
        weights = QUANTISERS[self.precision](self.weight)
        if self.residual is None or not self.training:
            return weights
        if self.residual_kind == "latent":
            return weights + self.residual * self.weight
        return weights + self.residual * (straight_ternary(self.weight) - weights)


def set_precision(model: nn.Module, precision: str) -> None:
    """Give every BitLinear of a model another weight precision, in place; its latent weights stay.

    Raises TritapeError for a name that is not in `QUANTISERS`, and for a model on the fused path, whose kernels know ternary
    weights only.
    """
    if precision not in QUANTISERS:
        raise TritapeError(f"precision must be one of {', '.join(QUANTISERS)}, not {precision!r}; choose one")
    if precision != "ternary" and getattr(model, "path", "plain") == "fused":
        raise TritapeError(
            f"precision must be ternary on the fused path, not {precision!r}; build the model with 'plain'"
        )
    for module in model.modules():
        if isinstance(module, BitLinear):
            module.__class__ = PrecisionLinear
            setattr(module, "precision", precision)  # noqa: B010 - the type checker knows only the old class


def set_residual(model: nn.Module, factor: Tensor, kind: Residual) -> None:
    """Let the weights of every PrecisionLinear have a residual of `factor` (a scalar on the model's device, to be filled
    before each step) while the model trains. It helps weights that the constraint has switched off to come back."""
    for module in model.modules():
        if isinstance(module, PrecisionLinear):
            module.residual, module.residual_kind = factor, kind
