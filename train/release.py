"""A trained model as the small checkpoint that is given away."""

from __future__ import annotations

import copy
from pathlib import Path

import torch

from tritape.train.model import HGRNBitForCausalLM, save_checkpoint
from tritape.train.plain import BitLinear
from tritape.train.precision import PrecisionLinear, sparse4
from tritape.train.ternary.threshold import ternary


@torch.no_grad()
def release(model: HGRNBitForCausalLM, tokenizer: Path | None, folder: Path) -> None:
    """Write the checkpoint in float16, with latent weights that hold nothing but the ternary ones.

    A matrix becomes T * scale / density (density: the share of weights that are not zero): its mean magnitude is `scale`
    again, so it quantises to exactly T, and to the scale within float16's 2^-11. So a model of precision sparse4 is an
    ordinary ternary one afterwards. The latents that training needs are in the run's state.safetensors.

    T is that of the training step, though thousands of latents end within a rounding error of a threshold: both take it
    from `tritape.train.ternary.threshold`.
    """
    model = copy.deepcopy(model)
    for module in model.modules():
        if isinstance(module, BitLinear):
            weight = module.weight
            if isinstance(module, PrecisionLinear) and module.precision == "sparse4":
                values, scale = sparse4(weight)
            else:
                values, scale = ternary(weight)
            density = values.abs().mean().clamp(min=1 / weight.numel())
            weight.copy_(values * (scale / density))
    save_checkpoint(model, tokenizer, folder, torch.float16)
