"""Which latent weights are zero: one rule for training, measuring and releasing, the same to the bit wherever it runs.

Training pushes latent weights to the threshold between two ternary values from both sides, and when the learning rate has
fallen to zero thousands lie within one rounding error of it. `round(W / mean(abs(W)))` puts each of them where the last
bits of a sum and of a division say, and these differ between devices and between compiled and plain code: on a GPU
torch.compile divides with an error of two units in the last place and sums in another order. Here

- the sum is in float64, so that its order shows only after the bits that float32 keeps,
- the mean is rounded to float32 before it decides,
- there is no division: abs(W) > mean / 2. Halving is exact, and so is a comparison. An exact half is zero, as for round.
"""

from __future__ import annotations

import torch
from torch import Tensor

from tritape.model.checkpoint import MIN_WEIGHT_SCALE


def weight_scale(weight: Tensor) -> Tensor:
    """max(mean|W|, 1e-5), a tensor of no dimension, in W's dtype but not below float32, correctly rounded but for one
    matrix in millions."""
    wide = torch.float64 if weight.dtype == torch.float64 else torch.float32
    total = weight.detach().abs().sum(dtype=torch.float64)
    return (total / weight.numel()).clamp(min=MIN_WEIGHT_SCALE).to(wide)


def signs(weight: Tensor, scale: Tensor) -> Tensor:
    """T of W given its scale: -1, 0 or 1 in W's dtype. A float64 scale decides by its float32 value."""
    half = (0.5 * scale.float()).to(scale.dtype)
    wide = weight.detach().to(scale.dtype)
    return (wide > half).to(weight.dtype) - (wide < -half).to(weight.dtype)


def ternary(weight: Tensor) -> tuple[Tensor, Tensor]:
    """(T, scale) of a latent matrix.

    The scale is the mean in W's own dtype, as in the released code, and not the one that decides: its last bit moves all
    weights of the matrix alike.
    """
    scale = weight.detach().abs().mean().clamp(min=MIN_WEIGHT_SCALE)
    return signs(weight, weight_scale(weight)), scale
