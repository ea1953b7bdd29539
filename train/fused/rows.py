"""Triton kernels for what works on whole rows: norm, gate or SwiGLU, then the BitLinears' norm and int8 quantisation.

One program holds one row at a time, whole (a power of two of elements, masked), in registers. Cost: each operand is
read once and each result written once. The backward kernel strides over rows and keeps the gains' gradients in
registers; `PROGRAMS` partial sums are added at the end.

Contract of both: `tritape.train.fused.reference`. Tested: float32, bfloat16 and float64 rows, widths 1 to 6,912.
"""

import torch
import triton
import triton.language as tl
from torch import Tensor

from tritape.train.fused.reference import Kind
from tritape.train.plain import BITLINEAR_EPS

PROGRAMS = 264
"""Programs of the backward kernel: two for each multiprocessor of an H100."""

KINDS: dict[Kind, int] = {"norm": 0, "gate": 1, "swiglu": 2}


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
    """See `reference.quantise`; a and b need unit stride along the row."""
    out = torch.empty(len(gains), *a.shape, dtype=dtype, device=a.device)
    _launch(kind, a, b, outer, eps, gains, scales, out, None)
    return out


def quantise_int8(
    kind: Kind, a: Tensor, b: Tensor | None, outer: Tensor | None, eps: float, gains: Tensor
) -> tuple[Tensor, Tensor]:
    """See `reference.quantise_int8`."""
    out = torch.empty(len(gains), *a.shape, dtype=torch.int8, device=a.device)
    back = torch.empty(
        out.shape[:2], dtype=torch.float64 if a.dtype == torch.float64 else torch.float32, device=a.device
    )
    _launch(kind, a, b, outer, eps, gains, None, out, back)
    return out, back


def _launch(
    kind: Kind, a: Tensor, b: Tensor | None, outer: Tensor | None, eps: float, gains: Tensor, scales: Tensor | None, out: Tensor,
    back: Tensor | None,
) -> None:  # fmt: skip
    count, width = a.shape
    second, norm = a if b is None else b, gains if outer is None else outer
    block = triton.next_power_of_2(width)
    _quantise[(count,)](
        out, out if back is None else back, a, second, norm, gains, gains if scales is None else scales,
        a.stride(0), second.stride(0), count, width, eps, BITLINEAR_EPS,
        KIND=KINDS[kind], P=len(gains), SCALED=scales is not None, BLOCK=block, WIDE=_wide(a), MAGIC=_magic(a),
        num_warps=_warps(block),
    )  # fmt: skip


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
    count, width = a.shape
    programs, block = min(PROGRAMS, count), triton.next_power_of_2(width)
    wide = torch.float64 if a.dtype == torch.float64 else torch.float32
    partial = torch.empty(programs, len(gains) + 1, width, dtype=wide, device=a.device)
    second, norm = a if b is None else b, gains if outer is None else outer
    da, db = into[0], into[0] if into[1] is None else into[1]
    _quantise_backward[(programs,)](
        da, db, partial, a, second, norm, gains, scales, grads, a if residual is None else residual,
        a.stride(0), second.stride(0), da.stride(0), db.stride(0), 0 if residual is None else residual.stride(0),
        count, width, eps, BITLINEAR_EPS,
        KIND=KINDS[kind], P=len(gains), RESIDUAL=residual is not None, BLOCK=block, WIDE=_wide(a), num_warps=_warps(block),
    )  # fmt: skip
    total = partial.sum(0)
    return None if outer is None else total[-1], total[:-1]


def _wide(a: Tensor) -> tl.dtype:
    return tl.float64 if a.dtype == torch.float64 else tl.float32


def _magic(a: Tensor) -> float:
    """Added and taken away again, it rounds to the nearest integer, halves to even."""
    return 1.5 * 2.0 ** (52 if a.dtype == torch.float64 else 23)


def _warps(block: int) -> int:
    return max(1, min(16, block // 512))


@triton.jit
def _quantise(
    out, back, a, b, outer, gains, scales, a_stride, b_stride, count, width, eps, inner_eps,
    KIND: tl.constexpr, P: tl.constexpr, SCALED: tl.constexpr, BLOCK: tl.constexpr, WIDE: tl.constexpr, MAGIC: tl.constexpr,
):  # fmt: skip
    row = tl.program_id(0).to(tl.int64)
    at = tl.arange(0, BLOCK)
    inside = at < width
    n = tl.load(a + row * a_stride + at, inside, 0.0).to(WIDE)
    if KIND == 2:
        n = n * _sigmoid(n) * tl.load(b + row * b_stride + at, inside, 0.0).to(WIDE)
    else:
        n = n / tl.sqrt(tl.sum(n * n) / width + eps) * tl.load(outer + at, inside, 0.0).to(WIDE)
        if KIND == 1:
            h = tl.load(b + row * b_stride + at, inside, 0.0).to(WIDE)
            n = n * h * _sigmoid(h)
    n = n / tl.sqrt(tl.sum(n * n) / width + inner_eps)
    for p in tl.static_range(P):
        xn = n * tl.load(gains + p * width + at, inside, 0.0).to(WIDE)
        largest = tl.maximum(tl.max(tl.abs(xn)), 1e-5)
        q = xn * (127.0 / largest) + MAGIC
        q = q - MAGIC
        if SCALED:
            q = q * (largest / 127.0 * tl.load(scales + p).to(WIDE))
        else:
            tl.store(back + p * count + row, largest / 127.0)
        tl.store(out + (p * count + row) * width + at, q.to(out.dtype.element_ty), inside)


@triton.jit
def _quantise_backward(
    da, db, partial, a, b, outer, gains, scales, grads, residual,
    a_stride, b_stride, da_stride, db_stride, residual_stride, count, width, eps, inner_eps,
    KIND: tl.constexpr, P: tl.constexpr, RESIDUAL: tl.constexpr, BLOCK: tl.constexpr, WIDE: tl.constexpr,
):  # fmt: skip
    first = tl.program_id(0).to(tl.int64)
    step = tl.num_programs(0)
    at = tl.arange(0, BLOCK)
    inside = at < width
    douter = tl.zeros([BLOCK], WIDE)
    dgain0 = tl.zeros([BLOCK], WIDE)
    dgain1 = tl.zeros([BLOCK], WIDE)
    dgain2 = tl.zeros([BLOCK], WIDE)
    for row in range(first, count, step):
        fa = tl.load(a + row * a_stride + at, inside, 0.0).to(WIDE)
        fb = fa
        sb = fa
        if KIND != 0:
            fb = tl.load(b + row * b_stride + at, inside, 0.0).to(WIDE)
        if KIND == 2:
            sb = _sigmoid(fa)
            r1 = 1.0
            n = fa * sb * fb
        else:
            r1 = 1.0 / tl.sqrt(tl.sum(fa * fa) / width + eps)
            n = fa * r1 * tl.load(outer + at, inside, 0.0).to(WIDE)
            if KIND == 1:
                sb = _sigmoid(fb)
                n = n * fb * sb
        r2 = 1.0 / tl.sqrt(tl.sum(n * n) / width + inner_eps)
        v = n * r2
        dv = tl.zeros([BLOCK], WIDE)
        for p in tl.static_range(P):
            dxn = tl.load(grads + (p * count + row) * width + at, inside, 0.0).to(WIDE) * tl.load(scales + p).to(WIDE)
            dv += dxn * tl.load(gains + p * width + at, inside, 0.0).to(WIDE)
            if p == 0:
                dgain0 += dxn * v
            elif p == 1:
                dgain1 += dxn * v
            else:
                dgain2 += dxn * v
        dn = r2 * (dv - v * (tl.sum(dv * v) / width))
        if KIND == 2:
            dfa = dn * fb * (sb + fa * sb * (1.0 - sb))
            tl.store(db + row * db_stride + at, (dn * fa * sb).to(db.dtype.element_ty), inside)
        else:
            u = fa * r1
            du = dn * tl.load(outer + at, inside, 0.0).to(WIDE)
            if KIND == 1:
                gate = fb * sb
                dfb = du * u * (sb + gate * (1.0 - sb))
                tl.store(db + row * db_stride + at, dfb.to(db.dtype.element_ty), inside)
                du = du * gate
                dn = dn * gate
            douter += dn * u
            dfa = r1 * (du - u * (tl.sum(du * u) / width))
        if RESIDUAL:
            dfa += tl.load(residual + row * residual_stride + at, inside, 0.0).to(WIDE)
        tl.store(da + row * da_stride + at, dfa.to(da.dtype.element_ty), inside)
    base = partial + first * (P + 1) * width + at
    tl.store(base, dgain0, inside)
    if P > 1:
        tl.store(base + width, dgain1, inside)
    if P > 2:
        tl.store(base + 2 * width, dgain2, inside)
    tl.store(base + P * width, douter, inside)


@triton.jit
def _sigmoid(x):
    return 1.0 / (1.0 + tl.exp(-x))
