"""The optimiser of ternary training: AdamW, or Muon for the matrices, with weight decay on the matrices only.

Everything of a step stays on the device (learning rate and step count are tensors), so that a CUDA graph can hold it,
and every operation is over all tensors at once. The state is plain tensors: a resumed run continues bit for bit.
Muon (momentum whose singular values are all made one by a Newton-Schulz iteration) moves a matrix by the same root
mean square as AdamW does, so one learning rate serves both. Source: Jordan et al., "Muon", 2024; arXiv 2502.16982 (the 0.2).
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

BETA1, BETA2, EPS = 0.9, 0.98, 1e-8
MOMENTUM = 0.95
CLIP = 1.0
"""Largest norm of all gradients together; a longer one is scaled down."""
MUON_RMS = 0.2
_SCHULZ = (3.4445, -4.7750, 2.0315)  # coefficients of the fifth-order iteration


def is_matrix(name: str, parameter: Tensor) -> bool:
    """Whether a parameter is a weight matrix of a projection: decayed, and what Muon moves."""
    return (parameter.dim() == 2 and name.endswith("_proj.weight")) or name == "lm_head.weight"


def orthogonalised(matrix: Tensor) -> Tensor:
    """About U V^T of the matrix' singular value decomposition, five iterations in bfloat16 on a GPU."""
    a, b, c = _SCHULZ
    x = matrix.bfloat16() if matrix.is_cuda else matrix
    tall = x.shape[0] > x.shape[1]
    x = x.T if tall else x
    x = x / (x.norm() + 1e-7)
    for _ in range(5):
        square = x @ x.T
        x = a * x + (b * square + c * square @ square) @ x
    return (x.T if tall else x).to(matrix.dtype)


class Optimiser:
    """Updates a model's parameters from their `.grad`; `learning_rate` is a tensor to be filled before each step."""

    def __init__(self, model: nn.Module, weight_decay: float, muon: bool) -> None:
        named = [(name, p) for name, p in model.named_parameters() if p.requires_grad]
        self.weight_decay = weight_decay
        self.parameters: list[Tensor] = [p for _, p in named]
        self.decayed: list[Tensor] = [p for name, p in named if is_matrix(name, p)]
        self.by_muon: list[Tensor] = [
            p for name, p in named if muon and is_matrix(name, p) and name != "lm_head.weight"
        ]
        muon_ids = {id(p) for p in self.by_muon}
        self.by_adam = [p for p in self.parameters if id(p) not in muon_ids]
        device = self.parameters[0].device
        self.learning_rate = torch.zeros((), device=device)
        self.count = torch.zeros((), device=device)
        self.first = [torch.zeros_like(p) for p in self.by_adam]
        self.second = [torch.zeros_like(p) for p in self.by_adam]
        self.momentum = [torch.zeros_like(p) for p in self.by_muon]

    @torch.no_grad()
    def step(self) -> None:
        """One update of every parameter."""
        gradients = _gradients(self.parameters)
        norm = torch.stack(torch._foreach_norm(gradients)).norm()
        torch._foreach_mul_(gradients, CLIP / norm.clamp(min=CLIP))
        torch._foreach_mul_(self.decayed, 1 - self.learning_rate * self.weight_decay)
        self.count += 1
        self._adam()
        if self.by_muon:
            self._muon()

    def _adam(self) -> None:
        gradients = _gradients(self.by_adam)
        torch._foreach_lerp_(self.first, gradients, 1 - BETA1)
        torch._foreach_mul_(self.second, BETA2)
        torch._foreach_addcmul_(self.second, gradients, gradients, 1 - BETA2)
        scale = torch._foreach_sqrt(self.second)
        torch._foreach_div_(scale, (1 - BETA2**self.count).sqrt())
        torch._foreach_add_(scale, EPS)
        update = torch._foreach_div(self.first, scale)
        torch._foreach_mul_(update, self.learning_rate / (1 - BETA1**self.count))
        torch._foreach_sub_(self.by_adam, update)

    def _muon(self) -> None:
        gradients = _gradients(self.by_muon)
        torch._foreach_lerp_(self.momentum, gradients, 1 - MOMENTUM)
        ahead = torch._foreach_lerp(gradients, self.momentum, MOMENTUM)
        for parameter, direction in zip(self.by_muon, ahead):
            size = MUON_RMS * max(parameter.shape) ** 0.5
            parameter.sub_(orthogonalised(direction) * (self.learning_rate * size))

    def state(self) -> dict[str, Tensor]:
        """Every tensor that `load_state` needs."""
        named = {f"first.{i}": t for i, t in enumerate(self.first)}
        named |= {f"second.{i}": t for i, t in enumerate(self.second)}
        named |= {f"momentum.{i}": t for i, t in enumerate(self.momentum)}
        return {**named, "count": self.count}

    @torch.no_grad()
    def load_state(self, state: dict[str, Tensor]) -> None:
        """Continue from a state that `state` gave."""
        for name, tensor in self.state().items():
            tensor.copy_(state[name])


def _gradients(parameters: list[Tensor]) -> list[Tensor]:
    gradients = [p.grad for p in parameters if p.grad is not None]
    assert len(gradients) == len(parameters)
    return gradients
