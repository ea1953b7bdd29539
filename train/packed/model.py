"""The model with packed weights, for inference: the same code on a GPU (Triton) and on a CPU (PyTorch).

Matrices are packed at 1.6 bits a weight, the embedding is int8 with a float32 scale a row; gains and state stay float32.
Activations are int8 as in training, and integer sums exact.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, fields

import torch
from torch import Tensor

from tritape.train.fused import ops
from tritape.train.plain import BitLinear, Block, HGRNBitConfig, PlainModel
from tritape.train.ternary.format import pack, product
from tritape.train.ternary.matrix import PackedMatrix
from tritape.train.ternary.threshold import weight_scale


@dataclass(frozen=True)
class PackedLayer:
    """One layer.

    ifg: i_proj, f_proj and g_proj below one another, with three scales; ifg_gains: their gains [3, hidden]; the other gains
    are [1, columns]; bound: the forget gate's lower bound [hidden], zeros where there is none.
    """

    ifg: PackedMatrix
    o: PackedMatrix
    gate: PackedMatrix
    down: PackedMatrix
    ifg_gains: Tensor
    o_gain: Tensor
    gate_gain: Tensor
    down_gain: Tensor
    attn_norm: Tensor
    g_norm: Tensor
    mlp_norm: Tensor
    bound: Tensor

    def inputs(self) -> tuple[PackedMatrix, ...]:
        """i_proj, f_proj and g_proj, as views."""
        parts = self.ifg.data.chunk(3)
        return tuple(PackedMatrix(data, scale, self.ifg.columns) for data, scale in zip(parts, self.ifg.scale))


class PackedModel:
    """A model's weights, packed, on the device of the model it is made from."""

    def __init__(self, model: PlainModel) -> None:
        self.config: HGRNBitConfig = model.config
        with torch.no_grad():
            table = model.model.embeddings.weight
            scale = table.abs().amax(1, keepdim=True).clamp(min=1e-12) / 127
            self.embedding = (table / scale).round().to(torch.int8)
            self.embedding_scale = scale[:, 0].float()
            self.layers = [_layer(block, bound) for block, bound in zip(model.blocks(), model.bounds())]
            self.norm, self.head = _copy(model.model.norm.weight), _matrix(model.lm_head)
            self.head_gain = _gains(model.lm_head)

    def step(self, ids: Tensor, states: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Logits [B, T, vocab] of ids [B, T] and the states [layers, B, hidden] after them, float32.

        states: those before the first id, None for zero. Any number of sequences and tokens, prompts included.
        """
        batch, steps = ids.shape
        eps = self.config.rms_norm_eps
        x = (self.embedding[ids].float() * self.embedding_scale[ids][..., None]).flatten(0, 1)
        after = torch.empty(len(self.layers), batch, self.config.hidden_size, device=x.device)
        for index, layer in enumerate(self.layers):
            q, worth = ops.quantise_int8("norm", x, None, layer.attn_norm, eps, layer.ifg_gains)
            i, f, g = (product(*part) for part in zip(q, worth, layer.inputs()))
            shape = (batch, steps, -1)
            h = ops.recurrence(i.view(shape), f.view(shape), layer.bound, None if states is None else states[index])
            after[index] = h[:, -1]
            x = x + _linear("gate", g, h.flatten(0, 1), layer.g_norm, eps, layer.o_gain, layer.o)
            gate, up = _linear("norm", x, None, layer.mlp_norm, eps, layer.gate_gain, layer.gate).chunk(2, dim=1)
            x = x + _linear("swiglu", gate, up, None, eps, layer.down_gain, layer.down)
        logits = _linear("norm", x, None, self.norm, eps, self.head_gain, self.head)
        return logits.view(batch, steps, -1), after

    def tensors(self) -> Iterator[Tensor]:
        """Everything that is held."""
        yield from (self.embedding, self.embedding_scale, self.norm, self.head.data, self.head.scale, self.head_gain)
        for layer in self.layers:
            for field in fields(layer):
                value = getattr(layer, field.name)
                yield from (value.data, value.scale) if isinstance(value, PackedMatrix) else (value,)

    @property
    def nbytes(self) -> int:
        """Bytes of memory of all tensors."""
        return sum(tensor.numel() * tensor.element_size() for tensor in self.tensors())


def _matrix(linear: BitLinear) -> PackedMatrix:
    scale = weight_scale(linear.weight)
    return PackedMatrix(pack(linear.weight, scale), scale.float(), linear.weight.shape[1])


def _gains(*linears: BitLinear) -> Tensor:
    return torch.stack([linear.norm.weight.detach().float() for linear in linears])


def _layer(block: Block, bound: Tensor | None) -> PackedLayer:
    attn, mlp = block.attn, block.mlp
    inputs = (attn.i_proj, attn.f_proj, attn.g_proj)
    matrices = [_matrix(linear) for linear in inputs]
    attn_norm = _copy(block.attn_norm.weight)
    return PackedLayer(
        ifg=PackedMatrix(
            torch.cat([matrix.data for matrix in matrices]),
            torch.stack([matrix.scale for matrix in matrices]),
            matrices[0].columns,
        ),
        o=_matrix(attn.o_proj),
        gate=_matrix(mlp.gate_proj),
        down=_matrix(mlp.down_proj),
        ifg_gains=_gains(*inputs),
        o_gain=_gains(attn.o_proj),
        gate_gain=_gains(mlp.gate_proj),
        down_gain=_gains(mlp.down_proj),
        attn_norm=attn_norm,
        g_norm=_copy(attn.g_norm.weight),
        mlp_norm=_copy(block.mlp_norm.weight),
        bound=torch.zeros_like(attn_norm) if bound is None else _copy(bound),
    )


def _copy(parameter: Tensor) -> Tensor:
    return parameter.detach().float().clone()


def _linear(
    kind: ops.Kind, a: Tensor, b: Tensor | None, outer: Tensor | None, eps: float, gain: Tensor, matrix: PackedMatrix
) -> Tensor:
    q, worth = ops.quantise_int8(kind, a, b, outer, eps, gain)
    return product(q[0], worth[0], matrix)
