"""What the fused training kernels compute, in plain PyTorch: the fallback without a GPU, and the kernels' truth in tests.

Every operation here is one or two Triton kernels in `rows`, `recurrence`, `cross_entropy`. All arithmetic is in
float32, or float64 when the input is; `dtype` is what matrix products run in (bfloat16 under autocast).
"""

from __future__ import annotations

from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from tritape.train.plain import BITLINEAR_EPS, at_least_float32
from tritape.train.scan import parallel_scan, scan_backward

Kind = Literal["norm", "gate", "swiglu"]
"""What stands before a BitLinear:  norm: n = rms(a, outer);  gate: n = rms(a, outer) * silu(b);  swiglu: n = silu(a) * b."""


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
    """The int8 inputs of P BitLinears that read the same n: q_p * (max|xn_p| / 127) * scales[p], `dtype` [P, N, W].

    a, b: [N, W], rows of any stride; outer: gain [W] of the norm inside `kind`, eps its epsilon; gains: [P, W], the
    BitLinears' own; scales: [P], 1 or the weights' scale, so that the product with the ternary matrix is the output.
    xn_p = n / sqrt(mean(n^2) + 1e-6) * gains[p];  q_p = clip(round(xn_p * 127 / max(max|xn_p|, 1e-5)), -128, 127).
    """
    q, back = quantise_int8(kind, a, b, outer, eps, gains)
    return (q * (back * scales.to(back)[:, None])[..., None]).to(dtype)


def quantise_int8(
    kind: Kind, a: Tensor, b: Tensor | None, outer: Tensor | None, eps: float, gains: Tensor
) -> tuple[Tensor, Tensor]:
    """The integers of `quantise`, int8 [P, N, W], and what one is worth, [P, N]: max|xn_p| / 127."""
    n = _prepare(kind, a, b, outer, eps)[0]
    v = n * torch.rsqrt(n.square().mean(-1, keepdim=True) + BITLINEAR_EPS)
    xn = v * at_least_float32(gains)[:, None]
    largest = xn.abs().amax(-1, keepdim=True).clamp(min=1e-5)
    return (xn * (127 / largest)).round().clamp(-128, 127).to(torch.int8), (largest / 127)[..., 0]


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
    """Gradients through `quantise` (straight through its rounding), n recomputed from a and b.

    grads: [P, N, W], gradient of the outputs before `scales` (they are applied here); residual: [N, W] added to a's
    gradient, or None; into: where the gradients of a and b go. Returns those of outer and gains.
    """
    n, parts = _prepare(kind, a, b, outer, eps)
    r2 = torch.rsqrt(n.square().mean(-1, keepdim=True) + BITLINEAR_EPS)
    v = n * r2
    dxn = grads.to(n) * scales.to(n)[:, None, None]
    dgains = (dxn * v).sum(1)
    dv = (dxn * at_least_float32(gains)[:, None]).sum(0)
    dn = r2 * (dv - v * (dv * v).mean(-1, keepdim=True))
    douter = None
    if kind == "swiglu":
        sa, fa, fb = parts
        da = dn * fb * (sa + fa * sa * (1 - sa))
        db = dn * fa * sa
    else:
        assert outer is not None
        u, r1, s = parts
        du = dn * at_least_float32(outer)
        if kind == "gate":
            assert b is not None
            fb = at_least_float32(b)
            gate = fb * s
            db = du * u * (s + gate * (1 - s))
            du = du * gate
            douter = (dn * gate * u).sum(0)
        else:
            douter = (dn * u).sum(0)
        da = r1 * (du - u * (du * u).mean(-1, keepdim=True))
    into[0].copy_(da if residual is None else da + residual)
    if into[1] is not None:
        into[1].copy_(db)
    return douter, dgains


def _prepare(
    kind: Kind, a: Tensor, b: Tensor | None, outer: Tensor | None, eps: float
) -> tuple[Tensor, tuple[Tensor, Tensor, Tensor]]:
    """n and what its gradient needs: (sigma(a), a, b) of swiglu, else (a * r1, r1, sigma(b))."""
    fa = at_least_float32(a)
    if kind == "swiglu":
        assert b is not None
        fb, sa = at_least_float32(b), torch.sigmoid(fa)
        return fa * sa * fb, (sa, fa, fb)
    assert outer is not None
    r1 = torch.rsqrt(fa.square().mean(-1, keepdim=True) + eps)
    u = fa * r1
    n = u * at_least_float32(outer)
    if kind == "norm":
        return n, (u, r1, r1)
    assert b is not None
    fb = at_least_float32(b)
    s = torch.sigmoid(fb)
    return n * fb * s, (u, r1, s)


def recurrence(i: Tensor, f: Tensor, bound: Tensor | None, before: Tensor | None = None) -> Tensor:
    """The states h [B, T, H] of the pre-activations i, f [B, T, H]: h[t] = F * h[t-1] + silu(i) * (1 - F).

    F = bound + (1 - bound) * sigma(f), bound [H] or None for zero; before: the state before the first step [B, H], None
    for zero; h is float32 (float64 when i is).
    """
    forget = _forget(f, bound)[0]
    value = F.silu(at_least_float32(i)) * (1 - forget)
    if before is not None:
        value[:, 0] += forget[:, 0] * before
    return parallel_scan(forget, value)


def recurrence_backward(
    i: Tensor, f: Tensor, bound: Tensor | None, h: Tensor, dh: Tensor
) -> tuple[Tensor, Tensor, Tensor | None]:
    """Gradients of i and f (in their dtype) and of bound, given h and its gradient dh."""
    forget, sf, low = _forget(f, bound)
    fi = at_least_float32(i)
    si = torch.sigmoid(fi)
    df, dv = scan_backward(forget, h, dh)
    dforget = df - dv * fi * si
    di = dv * (1 - forget) * (si + fi * si * (1 - si))
    dpre = dforget * (1 - low) * sf * (1 - sf)
    dbound = None if bound is None else (dforget * (1 - sf)).sum((0, 1))
    return di.to(i), dpre.to(f), dbound


def _forget(f: Tensor, bound: Tensor | None) -> tuple[Tensor, Tensor, Tensor]:
    sf = torch.sigmoid(at_least_float32(f))
    low = sf.new_zeros(()) if bound is None else bound.to(sf)
    return low + (1 - low) * sf, sf, low


def cross_entropy(logits: Tensor, targets: Tensor, weight: Tensor) -> Tensor:
    """Losses in nats of each row [N] (0 where the target is -100), and in place of the logits their gradient * weight [1]."""
    wide = at_least_float32(logits)
    log = torch.log_softmax(wide, -1)
    counted = targets != -100
    index = targets.clamp(min=0)[:, None]
    losses = torch.where(counted, -log.gather(1, index)[:, 0], 0)
    grad = log.exp_()
    grad.scatter_add_(1, index, -torch.ones_like(index, dtype=grad.dtype))
    logits.copy_(grad * (counted * weight)[:, None])
    return losses
