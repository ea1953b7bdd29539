"""The `hgrn_bit` model in PyTorch, written as its formulas read: the plain path, on which the fused one builds.

Semantics of the released code (arXiv 2406.02528), formulas in `tritape.model.reference`; the parameters carry the names
of the released checkpoints, so `state_dict()` loads there and theirs load here. Both quantisers pass gradients
unchanged (straight through); their scales are constants of the gradient. Runs anywhere, in any dtype and under autocast
and torch.compile.

Rounding: torch.round, which takes halves to even where the released kernel and the integer model take them away from
zero; no difference was seen (a half needs an exact tie after two divisions).
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tritape.model.config import ModelConfig
from tritape.train.scan import scan
from tritape.train.ternary.threshold import ternary

HGRNBitConfig = ModelConfig
"""The shape of a model; `HGRNBitConfig.from_file` and `.to_dict` read and write config.json."""

BITLINEAR_EPS = 1e-6


class RMSNorm(nn.Module):
    """x / sqrt(mean(x^2) + eps) * weight over the last axis, in float32 at least."""

    def __init__(self, width: int, eps: float) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(width))
        self.eps = eps

    def forward(self, x: Tensor) -> Tensor:
        x = at_least_float32(x)
        return x * torch.rsqrt(x.square().mean(-1, keepdim=True) + self.eps) * self.weight


class BitLinear(nn.Linear):
    """y = (T @ q) * w_scale / s: ternary T and w_scale of `weight`, int8 q and s of the normed input. No bias.

    weight: [out, in], the latent weights; norm: the matrix's own RMSNorm (eps 1e-6). Input [..., in], output [..., out].
    """

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__(inputs, outputs, bias=False)
        self.norm = RMSNorm(inputs, BITLINEAR_EPS)

    def forward(self, x: Tensor) -> Tensor:
        return F.linear(straight_int8(self.norm(x)), straight_ternary(self.weight))


class Attention(nn.Module):
    """The token mixer: h[t] = f * h[t-1] + silu(i) * (1 - f); out = o_proj(rms(g) * silu(h))."""

    def __init__(self, config: HGRNBitConfig) -> None:
        super().__init__()
        hidden = config.hidden_size
        self.i_proj, self.f_proj = BitLinear(hidden, hidden), BitLinear(hidden, hidden)
        self.g_proj, self.o_proj = BitLinear(hidden, hidden), BitLinear(hidden, hidden)
        self.g_norm = RMSNorm(hidden, config.rms_norm_eps)

    def forward(self, x: Tensor, bound: Tensor | None, state: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """x [B, T, H] and the state [B, H] before it (None: zero) -> output [B, T, H] and the state after it."""
        i, f, g = self.i_proj(x), torch.sigmoid(at_least_float32(self.f_proj(x))), self.g_proj(x)
        if bound is not None:
            f = bound + (1 - bound) * f
        h = scan(f, F.silu(at_least_float32(i)) * (1 - f), state)
        return self.o_proj(self.g_norm(g) * F.silu(h)), h[:, -1]


class MLP(nn.Module):
    """The channel mixer: down_proj(silu(gate) * up), gate and up the halves of gate_proj's output."""

    def __init__(self, config: HGRNBitConfig) -> None:
        super().__init__()
        self.gate_proj = BitLinear(config.hidden_size, 2 * config.intermediate_size)
        self.down_proj = BitLinear(config.intermediate_size, config.hidden_size)

    def forward(self, x: Tensor) -> Tensor:
        gate, up = self.gate_proj(x).chunk(2, dim=-1)
        return self.down_proj(F.silu(gate) * up)


class Block(nn.Module):
    """One layer: x += attn(attn_norm(x)); x += mlp(mlp_norm(x))."""

    def __init__(self, config: HGRNBitConfig) -> None:
        super().__init__()
        self.attn_norm = RMSNorm(config.hidden_size, config.rms_norm_eps)
        self.attn = Attention(config)
        self.mlp_norm = RMSNorm(config.hidden_size, config.rms_norm_eps)
        self.mlp = MLP(config)

    def forward(self, x: Tensor, bound: Tensor | None, state: Tensor | None = None) -> tuple[Tensor, Tensor]:
        y, state = self.attn(self.attn_norm(x), bound, state)
        x = x + y
        return x + self.mlp(self.mlp_norm(x)), state


class _Body(nn.Module):
    """Embedding, layers and final norm: the released code's `model.` prefix."""

    def __init__(self, config: HGRNBitConfig) -> None:
        super().__init__()
        self.embeddings = nn.Embedding(config.vocab_size, config.hidden_size)
        if config.use_lower_bound:
            self.lower_bounds = nn.Parameter(torch.zeros(config.num_hidden_layers, config.hidden_size))
        self.layers = nn.ModuleList(Block(config) for _ in range(config.num_hidden_layers))
        self.norm = RMSNorm(config.hidden_size, config.rms_norm_eps)


class PlainModel(nn.Module):
    """ids [B, T] -> logits [B, T, vocab].

    Initialised as the released code does: normal weights of deviation 0.02, the two projections into the residual
    divided by sqrt(2 layers), gains one, lower bounds zero.
    """

    def __init__(self, config: HGRNBitConfig) -> None:
        super().__init__()
        self.config = config
        self.model = _Body(config)
        self.lm_head = BitLinear(config.hidden_size, config.vocab_size)
        for name, parameter in self.named_parameters():
            if parameter.dim() == 2 and not name.endswith("lower_bounds"):
                narrow = name.endswith(("o_proj.weight", "down_proj.weight"))
                std = 0.02 / (2 * config.num_hidden_layers) ** 0.5 if narrow else 0.02
                nn.init.normal_(parameter, std=std)

    def blocks(self) -> Iterator[Block]:
        """The layers, first to last."""
        for block in self.model.layers:
            assert isinstance(block, Block)
            yield block

    def bounds(self) -> list[Tensor | None]:
        """The forget gate's lower bound of every layer [hidden]: cumsum(softmax) - softmax[0]; None where it is zero."""
        if not self.config.use_lower_bound:
            return [None] * self.config.num_hidden_layers
        share = at_least_float32(self.model.lower_bounds).softmax(0)
        return [None, *(share.cumsum(0) - share[0])[1:].unbind(0)]

    def forward(self, ids: Tensor) -> Tensor:
        """Logits [B, T, vocab] of ids [B, T], each given the ids before and at its place; the state starts at zero."""
        return self.step(ids, None)[0]

    def step(self, ids: Tensor, states: list[Tensor] | None) -> tuple[Tensor, list[Tensor]]:
        """`forward` that continues from the states [B, H] of every layer (None: a new sequence), and returns them."""
        x = self.model.embeddings(ids)
        after = []
        for index, (block, bound) in enumerate(zip(self.blocks(), self.bounds())):
            x, state = block(x, bound, None if states is None else states[index])
            after.append(state)
        return self.lm_head(self.model.norm(x)), after

    def loss(self, ids: Tensor, targets: Tensor) -> Tensor:
        """Mean cross-entropy in nats of `targets` [B, T] given ids [B, T]; targets of -100 do not count."""
        logits = self(ids)
        return F.cross_entropy(at_least_float32(logits).flatten(0, 1), targets.flatten())


def straight_ternary(weight: Tensor) -> Tensor:
    """T * w_scale with w_scale = max(mean|W|, 1e-5), T = clip(round(W / w_scale), -1, 1); the gradient is W's."""
    values, scale = ternary(weight)
    return weight + (values * scale - weight).detach()


def straight_int8(x: Tensor) -> Tensor:
    """q / s with s = 127 / max(max|x|, 1e-5) of each token, q = clip(round(x * s), -128, 127); the gradient is x's."""
    s = 127 / x.detach().abs().amax(-1, keepdim=True).clamp(min=1e-5)
    return x + ((x * s).round().clamp(-128, 127) / s - x).detach()


def at_least_float32(x: Tensor) -> Tensor:
    """x in float32, or in float64 as it is."""
    return x if x.dtype == torch.float64 else x.float()
