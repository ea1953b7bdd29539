"""Triton kernel of the cross-entropy and its gradient, which takes the place of the logits.

One program a row, in two passes over it: the running maximum and sum of exponentials, then the gradient.
Contract: `cross_entropy` of `tritape.train.fused.reference`. Tested: vocabularies from 1 to 32,000, all dtypes.
"""

import torch
import triton
import triton.language as tl
from torch import Tensor

BLOCK = 4096


def cross_entropy(logits: Tensor, targets: Tensor, weight: Tensor) -> Tensor:
    """See `reference.cross_entropy`; logits [N, V] contiguous."""
    wide = torch.float64 if logits.dtype == torch.float64 else torch.float32
    losses = torch.empty(len(logits), dtype=wide, device=logits.device)
    _cross_entropy[(len(logits),)](
        losses, logits, targets, weight, logits.shape[1],
        WIDE=tl.float64 if wide == torch.float64 else tl.float32,
        BLOCK=min(BLOCK, triton.next_power_of_2(logits.shape[1])), num_warps=8,
    )  # fmt: skip
    return losses


@triton.jit
def _cross_entropy(losses, logits, targets, weight, width, WIDE: tl.constexpr, BLOCK: tl.constexpr):
    row = tl.program_id(0).to(tl.int64)
    base = logits + row * width
    target = tl.load(targets + row)
    counted = target != -100
    place = tl.arange(0, BLOCK)
    largest = tl.full([BLOCK], -1e30, WIDE)
    total = tl.zeros([BLOCK], WIDE)
    for start in range(0, width, BLOCK):
        at = start + place
        x = tl.load(base + at, at < width, -1e30).to(WIDE)
        more = tl.maximum(largest, x)
        total = total * tl.exp(largest - more) + tl.where(at < width, tl.exp(x - more), 0.0)
        largest = more
    top = tl.max(largest)
    whole = tl.sum(total * tl.exp(largest - top))
    picked = tl.load(base + tl.where(counted, target, 0)).to(WIDE)
    tl.store(losses + row, tl.where(counted, top + tl.log(whole) - picked, 0.0))
    factor = tl.where(counted, tl.load(weight).to(WIDE), 0.0)
    for start in range(0, width, BLOCK):
        at = start + place
        x = tl.load(base + at, at < width, -1e30).to(WIDE)
        share = tl.exp(x - top) / whole
        share = (share - tl.where(at == target, 1.0, 0.0)) * factor
        tl.store(base + at, share.to(logits.dtype.element_ty), at < width)
