"""The gated recurrence h[t] = f[t] * h[t-1] + v[t] over whole sequences, in logarithmic depth, with its gradient."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable


def parallel_scan(f: Tensor, v: Tensor) -> Tensor:
    """h with h[:, t] = f[:, t] * h[:, t-1] + v[:, t] and h[:, -1] = 0; no gradient.

    f, v: floating [B, T, H], any T >= 1; h has their shape and dtype. Neighbours are combined into pairs, the pairs
    scanned, and the even places filled in: about 2 T steps of work in 2 log2 T dependent operations.
    """
    steps = f.shape[1]
    if steps == 1:
        return v
    pairs = steps // 2
    f_even, f_odd = f[:, 0 : 2 * pairs : 2], f[:, 1 : 2 * pairs : 2]
    v_even, v_odd = v[:, 0 : 2 * pairs : 2], v[:, 1 : 2 * pairs : 2]
    odd = parallel_scan(f_even * f_odd, torch.addcmul(v_odd, f_odd, v_even))
    h = torch.empty_like(v)
    h[:, 1::2] = odd
    h[:, 0] = v[:, 0]
    h[:, 2::2] = torch.addcmul(v[:, 2::2], f[:, 2::2], odd[:, : (steps - 1) // 2])
    return h


class _Scan(torch.autograd.Function):
    """Saves f and h; the gradient of h is itself a scan, backwards in time."""

    @staticmethod
    def forward(ctx: Any, f: Tensor, v: Tensor) -> Tensor:
        h = parallel_scan(f, v)
        ctx.save_for_backward(f, h)
        return h

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor]:
        f, h = ctx.saved_tensors
        return scan_backward(f, h, grad)


def scan_backward(f: Tensor, h: Tensor, grad: Tensor) -> tuple[Tensor, Tensor]:
    """Gradients of f and v given those of h: dv[t] = grad[t] + f[t+1] * dv[t+1];  df[t] = dv[t] * h[t-1]."""
    ahead = torch.cat([torch.zeros_like(f[:, :1]), f[:, 1:].flip(1)], dim=1)
    dv = parallel_scan(ahead, grad.flip(1)).flip(1)
    df = torch.cat([torch.zeros_like(f[:, :1]), dv[:, 1:] * h[:, :-1]], dim=1)
    return df, dv


def scan(f: Tensor, v: Tensor, h0: Tensor | None = None) -> Tensor:
    """h[:, t] = f[:, t] * h[:, t-1] + v[:, t] from h[:, -1] = h0 (zero unless given), differentiable.

    f, v: [B, T, H] of one floating dtype, T >= 1; h0: [B, H]. Memory kept for the gradient: f and h.
    """
    if h0 is not None:
        v = torch.cat([v[:, :1] + f[:, :1] * h0[:, None], v[:, 1:]], dim=1)
    return _Scan.apply(f, v)
