"""A Transformer++ of equal interface, the baseline of the studies and the teacher of small models.

The recipe that current language models share: pre-norm blocks with RMSNorm, rotary positions, causal softmax attention
through the fused kernel of PyTorch, a SwiGLU channel mixer, no biases. Weights are floats; initialised normal with
deviation 0.02, the projections into the residual divided by sqrt(2 layers). Source: Touvron et al., arXiv 2302.13971,
section 2.2.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tritape.base.errors import TritapeError
from tritape.model.config import ModelConfig
from tritape.train.plain import RMSNorm, at_least_float32

HEAD_WIDTH = 64
"""Width of a head that a model is divided into when the hidden size allows it."""


def rotary(length: int, width: int, device: torch.device) -> tuple[Tensor, Tensor]:
    """Cosine and sine [length, width / 2] of the rotary angles t * 10000^(-2 k / width)."""
    frequency = 10000.0 ** (-torch.arange(0, width, 2, device=device, dtype=torch.float32) / width)
    angle = torch.arange(length, device=device, dtype=torch.float32)[:, None] * frequency
    return angle.cos(), angle.sin()


def rotate(x: Tensor, cosine: Tensor, sine: Tensor) -> Tensor:
    """Each pair (x[k], x[k + width / 2]) turned by its angle; x [B, heads, T, width]."""
    first, second = x.float().chunk(2, dim=-1)
    return torch.cat([first * cosine - second * sine, first * sine + second * cosine], dim=-1).to(x.dtype)


class TransformerBlock(nn.Module):
    """x += attention(norm(x)); x += down(silu(gate) * up) of norm(x); dropout on both results."""

    def __init__(self, config: ModelConfig, heads: int, dropout: float) -> None:
        super().__init__()
        hidden, inner = config.hidden_size, config.intermediate_size
        self.heads, self.dropout = heads, dropout
        self.attn_norm, self.mlp_norm = RMSNorm(hidden, config.rms_norm_eps), RMSNorm(hidden, config.rms_norm_eps)
        self.qkv_proj = nn.Linear(hidden, 3 * hidden, bias=False)
        self.o_proj = nn.Linear(hidden, hidden, bias=False)
        self.gate_proj = nn.Linear(hidden, 2 * inner, bias=False)
        self.down_proj = nn.Linear(inner, hidden, bias=False)

    def forward(self, x: Tensor, cosine: Tensor, sine: Tensor) -> Tensor:
        batch, length, hidden = x.shape
        parts = self.qkv_proj(self.attn_norm(x)).view(batch, length, 3, self.heads, -1).permute(2, 0, 3, 1, 4)
        query, key, value = rotate(parts[0], cosine, sine), rotate(parts[1], cosine, sine), parts[2]
        mixed = F.scaled_dot_product_attention(query, key, value, is_causal=True)
        x = x + self._drop(self.o_proj(mixed.transpose(1, 2).reshape(batch, length, hidden)))
        gate, up = self.gate_proj(self.mlp_norm(x)).chunk(2, dim=-1)
        return x + self._drop(self.down_proj(F.silu(gate) * up))

    def _drop(self, x: Tensor) -> Tensor:
        return F.dropout(x, self.dropout, self.training)


class Transformer(nn.Module):
    """ids [B, T] -> logits [B, T, vocab]. `config` gives the same four sizes as a MatMul-free model.

    A block has (4 hidden + 3 intermediate) * hidden weights, as many as one of `hgrn_bit`.
    """

    def __init__(self, config: ModelConfig, dropout: float = 0.0) -> None:
        super().__init__()
        hidden = config.hidden_size
        self.heads = max(1, round(hidden / HEAD_WIDTH))
        while hidden % (2 * self.heads):
            self.heads -= 1
            if not self.heads:
                raise TritapeError(f"hidden size must be even, not {hidden}; choose another")
        self.config = config
        self.embeddings = nn.Embedding(config.vocab_size, hidden)
        self.layers = nn.ModuleList(
            TransformerBlock(config, self.heads, dropout) for _ in range(config.num_hidden_layers)
        )
        self.norm = RMSNorm(hidden, config.rms_norm_eps)
        self.lm_head = nn.Linear(hidden, config.vocab_size, bias=False)
        for name, parameter in self.named_parameters():
            if parameter.dim() == 2:
                narrow = name.endswith(("o_proj.weight", "down_proj.weight"))
                nn.init.normal_(parameter, std=0.02 / ((2 * config.num_hidden_layers) ** 0.5 if narrow else 1))

    def forward(self, ids: Tensor) -> Tensor:
        """Logits of ids, each given the ids before and at its place."""
        x = self.embeddings(ids)
        cosine, sine = rotary(ids.shape[1], self.config.hidden_size // self.heads, ids.device)
        for layer in self.layers:
            x = layer(x, cosine, sine)
        return self.lm_head(self.norm(x))

    def loss(self, ids: Tensor, targets: Tensor) -> Tensor:
        """Mean cross-entropy in nats of `targets` [B, T]."""
        return F.cross_entropy(at_least_float32(self(ids)).flatten(0, 1), targets.flatten())
