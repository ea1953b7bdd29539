"""Triton kernels of the gated recurrence: h[t] = F * h[t-1] + silu(i) * (1 - F), F = bound + (1 - bound) * sigma(f).

A program owns `CHANNELS` channels of one sequence and walks through time `STEPS` steps at once: inside such a tile by an
associative scan, from tile to tile by the carried state. Loads do not depend on the carry, so they run ahead.
Cost: each operand read once (f twice in backward), each result written once.

Contract: `recurrence` and `recurrence_backward` of `tritape.train.fused.reference`. Tested: any T >= 1 and H, all dtypes.
"""

import torch
import triton
import triton.language as tl
from torch import Tensor

CHANNELS, STEPS = 32, 32


def forward(i: Tensor, f: Tensor, bound: Tensor | None, before: Tensor | None = None) -> Tensor:
    """See `reference.recurrence`; all contiguous."""
    batch, steps, width = i.shape
    h = torch.empty(i.shape, dtype=_wide_dtype(i), device=i.device)
    _forward[(triton.cdiv(width, CHANNELS), batch)](
        h, i, f, i if bound is None else bound, i if before is None else before, steps, width,
        BOUND=bound is not None, BEFORE=before is not None, WIDE=_wide(i), CHANNELS=CHANNELS, STEPS=STEPS, num_warps=4,
    )  # fmt: skip
    return h


def backward(i: Tensor, f: Tensor, bound: Tensor | None, h: Tensor, dh: Tensor) -> tuple[Tensor, Tensor, Tensor | None]:
    """See `reference.recurrence_backward`; all contiguous."""
    batch, steps, width = i.shape
    di, df = torch.empty_like(i), torch.empty_like(f)
    dbound = torch.empty(batch, width, dtype=h.dtype, device=i.device)
    _backward[(triton.cdiv(width, CHANNELS), batch)](
        di, df, dbound, i, f, i if bound is None else bound, h, dh, steps, width,
        BOUND=bound is not None, WIDE=_wide(i), CHANNELS=CHANNELS, STEPS=STEPS, num_warps=4,
    )  # fmt: skip
    return di, df, None if bound is None else dbound.sum(0)


def _wide(i: Tensor) -> tl.dtype:
    return tl.float64 if i.dtype == torch.float64 else tl.float32


def _wide_dtype(i: Tensor) -> torch.dtype:
    return torch.float64 if i.dtype == torch.float64 else torch.float32


@triton.jit
def _combine(f0, v0, f1, v1):
    return f0 * f1, f1 * v0 + v1


@triton.jit
def _sigmoid(x):
    return 1.0 / (1.0 + tl.exp(-x))


@triton.jit
def _forward(
    h, i, f, bound, before, steps, width,
    BOUND: tl.constexpr, BEFORE: tl.constexpr, WIDE: tl.constexpr, CHANNELS: tl.constexpr, STEPS: tl.constexpr,
):  # fmt: skip
    channel = tl.program_id(0) * CHANNELS + tl.arange(0, CHANNELS)
    base = tl.program_id(1).to(tl.int64) * steps * width
    low = tl.zeros([CHANNELS], WIDE)
    if BOUND:
        low = tl.load(bound + channel, channel < width, 0.0).to(WIDE)
    carry = tl.zeros([CHANNELS], WIDE)
    if BEFORE:
        carry = tl.load(before + tl.program_id(1) * width + channel, channel < width, 0.0).to(WIDE)
    place = tl.arange(0, STEPS)
    for start in range(0, steps, STEPS):
        t = start + place
        at = base + t[:, None] * width + channel[None, :]
        inside = (t[:, None] < steps) & (channel[None, :] < width)
        pre = tl.load(i + at, inside, 0.0).to(WIDE)
        forget = low[None, :] + (1.0 - low)[None, :] * _sigmoid(tl.load(f + at, inside, 0.0).to(WIDE))
        value = pre * _sigmoid(pre) * (1.0 - forget)
        product, local = tl.associative_scan((forget, value), 0, _combine)
        states = local + product * carry[None, :]
        tl.store(h + at, states, inside)
        carry = tl.sum(tl.where(place[:, None] == STEPS - 1, states, 0.0), 0)


@triton.jit
def _backward(
    di, df, dbound, i, f, bound, h, dh, steps, width,
    BOUND: tl.constexpr, WIDE: tl.constexpr, CHANNELS: tl.constexpr, STEPS: tl.constexpr,
):  # fmt: skip
    channel = tl.program_id(0) * CHANNELS + tl.arange(0, CHANNELS)
    base = tl.program_id(1).to(tl.int64) * steps * width
    low = tl.zeros([CHANNELS], WIDE)
    if BOUND:
        low = tl.load(bound + channel, channel < width, 0.0).to(WIDE)
    carry = tl.zeros([CHANNELS], WIDE)
    dlow = tl.zeros([CHANNELS], WIDE)
    place = tl.arange(0, STEPS)
    tiles = tl.cdiv(steps, STEPS)
    for index in range(0, tiles):
        # time runs backwards, inside a tile too: place 0 is its last step; a tile before step 0 is masked
        t = (tiles - index) * STEPS - 1 - place
        at = base + t[:, None] * width + channel[None, :]
        inside = (t[:, None] < steps) & (channel[None, :] < width)
        later = (t[:, None] + 1 < steps) & (channel[None, :] < width)
        ahead = low[None, :] + (1.0 - low)[None, :] * _sigmoid(tl.load(f + at + width, later, 0.0).to(WIDE))
        ahead = tl.where(later, ahead, 0.0)
        product, local = tl.associative_scan((ahead, tl.load(dh + at, inside, 0.0).to(WIDE)), 0, _combine)
        dv = local + product * carry[None, :]
        carry = tl.sum(tl.where(place[:, None] == STEPS - 1, dv, 0.0), 0)
        pre = tl.load(i + at, inside, 0.0).to(WIDE)
        s = _sigmoid(pre)
        sf = _sigmoid(tl.load(f + at, inside, 0.0).to(WIDE))
        before = tl.load(h + at - width, inside & (t[:, None] > 0), 0.0).to(WIDE)
        dforget = dv * (before - pre * s)
        forget = low[None, :] + (1.0 - low)[None, :] * sf
        dpre = dv * (1.0 - forget) * (s + pre * s * (1.0 - s))
        tl.store(di + at, dpre.to(di.dtype.element_ty), inside)
        tl.store(df + at, (dforget * (1.0 - low)[None, :] * sf * (1.0 - sf)).to(df.dtype.element_ty), inside)
        dlow += tl.sum(tl.where(inside, dforget * (1.0 - sf), 0.0), 0)
    tl.store(dbound + tl.program_id(1) * width + channel, dlow, channel < width)
