"""The two halves of a layer and the head as single autograd operations that keep little for the gradient.

| operation | kept for its gradient, per token |
|---|---|
| token mixer | its input; the pre-activations of i, f, g |
| channel mixer | its input; gate_proj's output |
| head and loss | nothing: the gradients are made in the forward pass, `CHUNK` tokens' logits at a time |

Normed and quantised inputs, the recurrent states and the gated products are computed again in backward, each by one
pass over what was kept. Ternary weights are packed at 1.6 bits once a step, in the forward pass, and expanded for one
matrix product at a time, there and in backward.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from tritape.train.fused import ops
from tritape.train.plain import BitLinear, Block, PlainModel
from tritape.train.ternary.format import pack, unpack, weight_scales
from tritape.train.ternary.matrix import PackedMatrix

CHUNK = 1024
"""Tokens whose logits exist at a time."""


def packed_weights(model: PlainModel) -> dict[BitLinear, PackedMatrix]:
    """The ternary weights of every BitLinear as they are now.

    Nothing is kept between calls: PyTorch's fused AdamW does not mark the parameters it changes, so a cache could not tell.
    """
    linears = [module for module in model.modules() if isinstance(module, BitLinear)]
    with torch.no_grad():
        scales = weight_scales([linear.weight for linear in linears])
        return {
            linear: PackedMatrix(pack(linear.weight, scale), scale, linear.weight.shape[1])
            for linear, scale in zip(linears, scales)
        }


class _TokenMixer(torch.autograd.Function):
    """x + attn(attn_norm(x)) of x [B, T, H]."""

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, bound: Tensor | None, attn_norm: Tensor, g_norm: Tensor, gains: Tensor, o_gain: Tensor,
        wi: Tensor, wf: Tensor, wg: Tensor, wo: Tensor, packed: list[PackedMatrix], eps: float, dtype: torch.dtype,
    ) -> Tensor:  # fmt: skip
        rows = x.flatten(0, 1)
        quantised = ops.quantise("norm", rows, None, attn_norm, eps, gains, _scales(packed[:3]), dtype)
        i, f, g = (_product(q, p) for q, p in zip(quantised, packed))
        del quantised
        h = ops.recurrence(i.view_as(x), f.view_as(x), bound).flatten(0, 1)
        gated = ops.quantise("gate", g, h, g_norm, eps, o_gain[None], _scales(packed[3:]), dtype)[0]
        ctx.save_for_backward(x, bound, attn_norm, g_norm, gains, o_gain, i, f, g)
        ctx.packed, ctx.eps, ctx.dtype, ctx.wide = packed, eps, dtype, wi.dtype
        return x + _product(gated, packed[3]).view_as(x)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        x, bound, attn_norm, g_norm, gains, o_gain, i, f, g = ctx.saved_tensors
        packed, eps, dtype = ctx.packed, ctx.eps, ctx.dtype
        rows, residual, out = x.flatten(0, 1), grad.flatten(0, 1), grad.flatten(0, 1).to(dtype)
        ones = torch.ones(3, device=x.device)
        h = ops.recurrence(i.view_as(x), f.view_as(x), bound).flatten(0, 1)
        gated = ops.quantise("gate", g, h, g_norm, eps, o_gain[None], ones[:1], dtype)[0]
        dwo = _weight_gradient(out, gated, ctx.wide)
        dgated = _input_gradient(out, packed[3], gated)
        dg, dh = torch.empty_like(g), torch.empty_like(h)
        dg_norm, do_gain = ops.quantise_backward(
            "gate", g, h, g_norm, eps, o_gain[None], _scales(packed[3:]), dgated[None], None, (dg, dh)
        )
        di, df, dbound = ops.recurrence_backward(i.view_as(x), f.view_as(x), bound, h.view_as(x), dh.view_as(x))
        del h, dh, gated, dgated
        quantised = ops.quantise("norm", rows, None, attn_norm, eps, gains, ones, dtype)
        weights = []
        for index, part in enumerate((di.flatten(0, 1), df.flatten(0, 1), dg)):
            weights.append(_weight_gradient(part, quantised[index], ctx.wide))
            _input_gradient(part, packed[index], quantised[index])  # overwrites the input, needed no more
        dx = torch.empty_like(rows)
        dattn_norm, dgains = ops.quantise_backward(
            "norm", rows, None, attn_norm, eps, gains, _scales(packed[:3]), quantised, residual, (dx, None)
        )
        return dx.view_as(x), dbound, dattn_norm, dg_norm, dgains, do_gain[0], *weights, dwo, None, None, None


class _ChannelMixer(torch.autograd.Function):
    """x + mlp(mlp_norm(x)) of x [B, T, H]."""

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, mlp_norm: Tensor, gate_gain: Tensor, down_gain: Tensor, gate: Tensor, down: Tensor,
        packed: list[PackedMatrix], eps: float, dtype: torch.dtype,
    ) -> Tensor:  # fmt: skip
        rows = x.flatten(0, 1)
        quantised = ops.quantise("norm", rows, None, mlp_norm, eps, gate_gain[None], _scales(packed[:1]), dtype)[0]
        both = _product(quantised, packed[0])
        a, b = both.chunk(2, dim=1)
        product = ops.quantise("swiglu", a, b, None, 0.0, down_gain[None], _scales(packed[1:]), dtype)[0]
        ctx.save_for_backward(x, mlp_norm, gate_gain, down_gain, both)
        ctx.packed, ctx.eps, ctx.dtype, ctx.wide = packed, eps, dtype, gate.dtype
        return x + _product(product, packed[1]).view_as(x)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        x, mlp_norm, gate_gain, down_gain, both = ctx.saved_tensors
        packed, eps, dtype = ctx.packed, ctx.eps, ctx.dtype
        rows, residual, out = x.flatten(0, 1), grad.flatten(0, 1), grad.flatten(0, 1).to(dtype)
        one = torch.ones(1, device=x.device)
        a, b = both.chunk(2, dim=1)
        product = ops.quantise("swiglu", a, b, None, 0.0, down_gain[None], one, dtype)[0]
        ddown = _weight_gradient(out, product, ctx.wide)
        dproduct = _input_gradient(out, packed[1], product)
        dboth = torch.empty_like(both)
        da, db = dboth.chunk(2, dim=1)
        _, ddown_gain = ops.quantise_backward(
            "swiglu", a, b, None, 0.0, down_gain[None], _scales(packed[1:]), dproduct[None], None, (da, db)
        )
        del product, dproduct
        quantised = ops.quantise("norm", rows, None, mlp_norm, eps, gate_gain[None], one, dtype)[0]
        dgate = _weight_gradient(dboth, quantised, ctx.wide)
        dquantised = _input_gradient(dboth, packed[0], quantised)
        dx = torch.empty_like(rows)
        dmlp_norm, dgate_gain = ops.quantise_backward(
            "norm",
            rows,
            None,
            mlp_norm,
            eps,
            gate_gain[None],
            _scales(packed[:1]),
            dquantised[None],
            residual,
            (dx, None),
        )
        return dx.view_as(x), dmlp_norm, dgate_gain[0], ddown_gain[0], dgate, ddown, None, None, None


class _HeadLoss(torch.autograd.Function):
    """Mean cross-entropy of lm_head(norm(x)), x [N, H]; the gradients are ready when it returns."""

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, norm: Tensor, gain: Tensor, weight: Tensor, targets: Tensor,
        packed: PackedMatrix, eps: float, dtype: torch.dtype,
    ) -> Tensor:  # fmt: skip
        scale, one = packed.scale[None], torch.ones(1, device=x.device)
        matrix = unpack(packed.data, packed.columns, dtype)
        share = 1 / (targets != -100).sum(dtype=torch.float64).clamp(min=1)[None]
        total = torch.zeros(1, dtype=torch.float64, device=x.device)
        dweight, dx = torch.zeros_like(weight), torch.empty_like(x)
        dnorm, dgain = torch.zeros_like(norm), torch.zeros_like(gain)[None]
        for start in range(0, len(x), CHUNK):
            rows = x[start : start + CHUNK]
            quantised = ops.quantise("norm", rows, None, norm, eps, gain[None], one, dtype)[0]
            logits = (quantised * packed.scale.to(dtype)) @ matrix.T
            total += ops.cross_entropy(logits, targets[start : start + CHUNK], share).sum()
            dweight += _weight_gradient(logits, quantised, weight.dtype)
            dquantised = torch.mm(logits, matrix)
            parts = ops.quantise_backward(
                "norm",
                rows,
                None,
                norm,
                eps,
                gain[None],
                scale,
                dquantised[None],
                None,
                (dx[start : start + CHUNK], None),
            )
            assert parts[0] is not None
            dnorm += parts[0]
            dgain += parts[1]
        ctx.save_for_backward(dx, dnorm, dgain[0], dweight)
        return (total * share)[0].to(torch.float64 if x.dtype == torch.float64 else torch.float32)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        return *(part.mul_(grad) for part in ctx.saved_tensors), None, None, None, None


def fused_loss(model: PlainModel, ids: Tensor, targets: Tensor) -> Tensor:
    """Mean cross-entropy in nats of `targets` [B, T] given `ids` [B, T]; targets of -100 do not count."""
    kind, head = ids.device.type, model.lm_head
    x = model.model.embeddings(ids)
    dtype = torch.get_autocast_dtype(kind) if torch.is_autocast_enabled(kind) else x.dtype
    with torch.autocast(kind, enabled=False):
        packed = packed_weights(model)
        for block, bound in zip(model.blocks(), model.bounds()):
            x = _block(block, packed, x, bound, dtype)
        loss: Tensor = _HeadLoss.apply(
            x.flatten(0, 1), model.model.norm.weight, head.norm.weight, head.weight, targets.flatten(),
            packed[head], model.model.norm.eps, dtype,
        )  # fmt: skip
    return loss


def _block(
    block: Block, packed: dict[BitLinear, PackedMatrix], x: Tensor, bound: Tensor | None, dtype: torch.dtype
) -> Tensor:
    attn, mlp = block.attn, block.mlp
    inputs = (attn.i_proj, attn.f_proj, attn.g_proj)
    x = _TokenMixer.apply(
        x, bound, block.attn_norm.weight, attn.g_norm.weight, torch.stack([p.norm.weight for p in inputs]),
        attn.o_proj.norm.weight, *(p.weight for p in inputs), attn.o_proj.weight,
        [packed[p] for p in (*inputs, attn.o_proj)], block.attn_norm.eps, dtype,
    )  # fmt: skip
    x = _ChannelMixer.apply(
        x, block.mlp_norm.weight, mlp.gate_proj.norm.weight, mlp.down_proj.norm.weight,
        mlp.gate_proj.weight, mlp.down_proj.weight,
        [packed[mlp.gate_proj], packed[mlp.down_proj]], block.mlp_norm.eps, dtype,
    )  # fmt: skip
    return x


def _scales(packed: list[PackedMatrix]) -> Tensor:
    return torch.stack([p.scale for p in packed])


def _product(quantised: Tensor, packed: PackedMatrix) -> Tensor:
    """quantised [N, K], scales included, times the ternary matrix: [N, R]."""
    return quantised @ unpack(packed.data, packed.columns, quantised.dtype).T


def _input_gradient(grad: Tensor, packed: PackedMatrix, out: Tensor) -> Tensor:
    """grad [N, R] times the ternary matrix, without its scale, into `out` [N, K]."""
    return torch.mm(grad, unpack(packed.data, packed.columns, grad.dtype), out=out)


def _weight_gradient(grad: Tensor, quantised: Tensor, dtype: torch.dtype) -> Tensor:
    """grad^T @ quantised [R, K] in the parameter's dtype."""
    if grad.is_cuda and grad.dtype != dtype:
        return torch.mm(grad.T, quantised, out_dtype=dtype)
    return (grad.T @ quantised).to(dtype)
