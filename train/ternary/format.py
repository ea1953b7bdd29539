"""Packing, expanding and multiplying ternary matrices (`matrix`): Triton kernels on a GPU, plain PyTorch elsewhere."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from tritape.model.checkpoint import MIN_WEIGHT_SCALE
from tritape.train.ternary.matrix import TRITS, PackedMatrix, row_bytes
from tritape.train.ternary.threshold import signs

ROWS = 4096


def weight_scales(weights: Sequence[Tensor]) -> tuple[Tensor, ...]:
    """`threshold.weight_scale` of each matrix, in few launches."""
    wide = torch.float64 if weights[0].dtype == torch.float64 else torch.float32
    norms = torch._foreach_norm([weight.detach() for weight in weights], 1, dtype=torch.float64)
    means = torch._foreach_div(norms, [float(weight.numel()) for weight in weights])
    return torch.stack(torch._foreach_clamp_min(means, MIN_WEIGHT_SCALE)).to(wide).unbind()


def pack(weight: Tensor, scale: Tensor) -> Tensor:
    """Bytes [R, J] of clip(round(weight / scale), -1, 1) as `threshold.signs` rounds, weight [R, K]."""
    if weight.is_cuda:
        from tritape.train.ternary.kernels import pack as kernel

        return kernel(weight, scale)
    rows, columns = weight.shape
    digits = torch.ones(rows, TRITS * row_bytes(columns), dtype=torch.int32, device=weight.device)
    digits[:, :columns] = signs(weight, scale).int() + 1
    value = torch.zeros_like(digits[:, : row_bytes(columns)])
    for plane in digits.view(rows, TRITS, -1).unbind(1):
        value = 3 * value + plane
    return ((256 * value + 242) // 243).to(torch.uint8)


def unpack(data: Tensor, columns: int, dtype: torch.dtype) -> Tensor:
    """The weights -1, 0, +1 [R, columns] of packed bytes, in `dtype`."""
    if data.is_cuda:
        from tritape.train.ternary.kernels import unpack as kernel

        return kernel(data, columns, dtype)
    value = data.to(torch.int16)
    planes = []
    for _ in range(TRITS):
        value = value * 3
        planes.append((value >> 8).to(torch.int8) - 1)
        value = value & 255
    return torch.cat(planes, dim=1)[:, :columns].to(dtype)


def product(q: Tensor, worth: Tensor, matrix: PackedMatrix) -> Tensor:
    """(q @ weights^T) * scale * worth: q int8 [N, K] and what its ones are worth [N] -> [N, R] in worth's dtype.

    The sums of integers are exact (K < 132,000). Without a GPU the matrix is expanded `ROWS` rows at a time.
    """
    if q.is_cuda:
        from tritape.train.ternary.kernels import product as kernel

        return kernel(q, worth, matrix)
    wide = q.float()
    parts = [wide @ unpack(part, matrix.columns, torch.float32).T for part in matrix.data.split(ROWS)]
    return torch.cat(parts, dim=1).to(worth) * (matrix.scale * worth)[:, None]
