"""A trained model as the small checkpoint that is given away."""

from __future__ import annotations

import copy
from pathlib import Path

import torch

from tritape.model.checkpoint import MIN_WEIGHT_SCALE
from tritape.train.model import HGRNBitForCausalLM, save_checkpoint
from tritape.train.plain import BitLinear
from tritape.train.precision import PrecisionLinear, sparse4


@torch.no_grad()
def release(model: HGRNBitForCausalLM, tokenizer: Path, folder: Path) -> None:
    """Write the checkpoint in float16, with latent weights that hold nothing but the ternary ones.

    A matrix becomes T * scale / density (density: the share of weights that are not zero): its mean magnitude is `scale`
    again, so it quantises to exactly T, and to the scale within float16's 2^-11. So a model of precision sparse4 is an
    ordinary ternary one afterwards. The latents that training needs are in the run's state.safetensors.

    T is computed on the model's own device: thousands of latents end within a rounding error of a threshold, and another
    device, whose mean magnitude differs in the last bit, would round some of them to the other side.
    """
    model = copy.deepcopy(model)
    for module in model.modules():
        if isinstance(module, BitLinear):
            weight = module.weight
            if isinstance(module, PrecisionLinear) and module.precision == "sparse4":
                ternary, scale = sparse4(weight)
            else:
                scale = weight.abs().mean().clamp(min=MIN_WEIGHT_SCALE)
                ternary = (weight / scale).round().clamp(-1, 1)
            density = ternary.abs().mean().clamp(min=1 / weight.numel())
            weight.copy_(ternary * (scale / density))
    save_checkpoint(model, tokenizer, folder, torch.float16)
