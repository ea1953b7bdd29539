"""The operations of `reference`, by Triton on a GPU and by plain PyTorch elsewhere."""

from __future__ import annotations

import torch
from torch import Tensor

from tritape.train.fused import reference
from tritape.train.fused.reference import Kind


def quantise(
    kind: Kind,
    a: Tensor,
    b: Tensor | None,
    outer: Tensor | None,
    eps: float,
    gains: Tensor,
    scales: Tensor,
    dtype: torch.dtype,
) -> Tensor:
    """See `reference.quantise`."""
    if a.is_cuda:
        from tritape.train.fused import rows

        return rows.quantise(kind, a, b, outer, eps, gains, scales, dtype)
    return reference.quantise(kind, a, b, outer, eps, gains, scales, dtype)


def quantise_int8(
    kind: Kind, a: Tensor, b: Tensor | None, outer: Tensor | None, eps: float, gains: Tensor
) -> tuple[Tensor, Tensor]:
    """See `reference.quantise_int8`."""
    if a.is_cuda:
        from tritape.train.fused import rows

        return rows.quantise_int8(kind, a, b, outer, eps, gains)
    return reference.quantise_int8(kind, a, b, outer, eps, gains)


def quantise_backward(
    kind: Kind,
    a: Tensor,
    b: Tensor | None,
    outer: Tensor | None,
    eps: float,
    gains: Tensor,
    scales: Tensor,
    grads: Tensor,
    residual: Tensor | None,
    into: tuple[Tensor, Tensor | None],
) -> tuple[Tensor | None, Tensor]:
    """See `reference.quantise_backward`."""
    if a.is_cuda:
        from tritape.train.fused import rows

        return rows.quantise_backward(kind, a, b, outer, eps, gains, scales, grads, residual, into)
    return reference.quantise_backward(kind, a, b, outer, eps, gains, scales, grads, residual, into)


def recurrence(i: Tensor, f: Tensor, bound: Tensor | None, before: Tensor | None = None) -> Tensor:
    """See `reference.recurrence`."""
    if i.is_cuda:
        from tritape.train.fused import recurrence as kernels

        return kernels.forward(i, f, bound, before)
    return reference.recurrence(i, f, bound, before)


def recurrence_backward(
    i: Tensor, f: Tensor, bound: Tensor | None, h: Tensor, dh: Tensor
) -> tuple[Tensor, Tensor, Tensor | None]:
    """See `reference.recurrence_backward`."""
    if i.is_cuda:
        from tritape.train.fused import recurrence as kernels

        return kernels.backward(i, f, bound, h, dh)
    return reference.recurrence_backward(i, f, bound, h, dh)


def cross_entropy(logits: Tensor, targets: Tensor, weight: Tensor) -> Tensor:
    """See `reference.cross_entropy`."""
    if logits.is_cuda:
        from tritape.train.fused import cross_entropy as kernels

        return kernels.cross_entropy(logits, targets, weight)
    return reference.cross_entropy(logits, targets, weight)
