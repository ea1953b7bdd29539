"""Triton kernels of the packed format: packing and expanding matrices (contract: `tritape.train.ternary.format`)."""

import torch
import triton
import triton.language as tl
from torch import Tensor

from tritape.train.ternary.matrix import TRITS, PackedMatrix, row_bytes

BLOCK = 1024


def pack(weight: Tensor, scale: Tensor) -> Tensor:
    """See `format.pack`; weight contiguous."""
    rows, columns = weight.shape
    packed = row_bytes(columns)
    data = torch.empty(rows, packed, dtype=torch.uint8, device=weight.device)
    _pack[(rows, triton.cdiv(packed, BLOCK))](
        data, weight, scale, packed, columns, TRITS=TRITS, BLOCK=BLOCK, num_warps=4
    )  # fmt: skip
    return data


def unpack(data: Tensor, columns: int, dtype: torch.dtype) -> Tensor:
    """See `format.unpack`."""
    rows, packed = data.shape
    out = torch.empty(rows, columns, dtype=dtype, device=data.device)
    _unpack[(rows, triton.cdiv(packed, BLOCK))](out, data, packed, columns, TRITS=TRITS, BLOCK=BLOCK, num_warps=4)
    return out


def product(q: Tensor, worth: Tensor, matrix: PackedMatrix) -> Tensor:
    """See `format.product`."""
    count, columns = q.shape
    rows, packed = matrix.data.shape
    out = torch.empty(count, rows, dtype=worth.dtype, device=q.device)
    tokens = 16 if count <= 16 else 64
    _product[(triton.cdiv(rows, 64), triton.cdiv(count, tokens))](
        out, q, worth, matrix.data, matrix.scale, count, rows, columns, packed,
        TRITS=TRITS, TOKENS=tokens, ROWS=64, BYTES=64, num_warps=4,
    )  # fmt: skip
    return out


@triton.jit
def _pack(data, weight, scale, packed, columns, TRITS: tl.constexpr, BLOCK: tl.constexpr):
    row = tl.program_id(0).to(tl.int64)
    byte = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
    wide = scale.dtype.element_ty
    half = (tl.load(scale).to(tl.float32) * 0.5).to(wide)  # as `threshold.signs`: no division
    value = tl.zeros([BLOCK], tl.int32)
    for digit in tl.static_range(TRITS):
        column = digit * packed + byte
        w = tl.load(weight + row * columns + column, (byte < packed) & (column < columns), 0.0).to(wide)
        value = 3 * value + 1 + (w > half).to(tl.int32) - (w < -half).to(tl.int32)
    tl.store(data + row * packed + byte, ((256 * value + 242) // 243).to(tl.uint8), byte < packed)


@triton.jit
def _unpack(out, data, packed, columns, TRITS: tl.constexpr, BLOCK: tl.constexpr):
    row = tl.program_id(0).to(tl.int64)
    byte = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
    value = tl.load(data + row * packed + byte, byte < packed, 0).to(tl.int32)
    for digit in tl.static_range(TRITS):
        column = digit * packed + byte
        value = value * 3
        trit = ((value >> 8) - 1).to(tl.float32)
        value = value & 255
        tl.store(out + row * columns + column, trit.to(out.dtype.element_ty), (byte < packed) & (column < columns))


@triton.jit
def _product(
    out, q, worth, data, scale, count, rows, columns, packed,
    TRITS: tl.constexpr, TOKENS: tl.constexpr, ROWS: tl.constexpr, BYTES: tl.constexpr,
):  # fmt: skip
    row = tl.program_id(0) * ROWS + tl.arange(0, ROWS)
    token = tl.program_id(1) * TOKENS + tl.arange(0, TOKENS)
    acc = tl.zeros([TOKENS, ROWS], tl.int32)
    for start in range(0, packed, BYTES):
        byte = start + tl.arange(0, BYTES)
        inside = (row[None, :] < rows) & (byte[:, None] < packed)
        value = tl.load(data + row[None, :].to(tl.int64) * packed + byte[:, None], inside, 0).to(tl.int16)
        for digit in tl.static_range(TRITS):
            column = digit * packed + byte
            used = (token[:, None] < count) & (byte[None, :] < packed) & (column[None, :] < columns)
            activation = tl.load(q + token[:, None].to(tl.int64) * columns + column[None, :], used, 0)
            value = value * 3
            acc = tl.dot(activation, ((value >> 8) - 1).to(tl.int8), acc, out_dtype=tl.int32)
            value = value & 255
    factor = tl.load(worth + token, token < count, 0.0) * tl.load(scale).to(worth.dtype.element_ty)
    y = acc.to(worth.dtype.element_ty) * factor[:, None]
    at = out + token[:, None].to(tl.int64) * rows + row[None, :]
    tl.store(at, y, (token[:, None] < count) & (row[None, :] < rows))
