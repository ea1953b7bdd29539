"""The `hgrn_bit` model that is trained, with straight-through ternary weights and int8 activations; and its checkpoints.

Two paths compute the same function: `plain` (`tritape.train.plain`) runs anywhere; `fused` (`tritape.train.fused`) keeps
less and runs Triton kernels on a GPU.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Literal

import torch
from safetensors.torch import save
from torch import Tensor

from tritape.base.errors import TritapeError
from tritape.base.files import replacing
from tritape.model.checkpoint import load_checkpoint
from tritape.train.plain import HGRNBitConfig, PlainModel

ComputePath = Literal["plain", "fused"]


class HGRNBitForCausalLM(PlainModel):
    """`PlainModel` whose loss `path` chooses how to compute, not what."""

    def __init__(self, config: HGRNBitConfig, path: ComputePath = "plain") -> None:
        if path not in ("plain", "fused"):
            raise TritapeError(f"path must be 'plain' or 'fused', not {path!r}; choose one")
        super().__init__(config)
        self.path = path

    def loss(self, ids: Tensor, targets: Tensor) -> Tensor:
        """Mean cross-entropy in nats of `targets` [B, T] given ids [B, T]; targets of -100 do not count."""
        if self.path == "fused":
            from tritape.train.fused import fused_loss

            return fused_loss(self, ids, targets)
        return super().loss(ids, targets)


def load_model(folder: str | Path, path: ComputePath = "plain") -> HGRNBitForCausalLM:
    """The model of a checkpoint folder, float32, on the CPU. Raises TritapeError as `load_checkpoint` does."""
    checkpoint = load_checkpoint(folder)
    model = HGRNBitForCausalLM(checkpoint.config, path)
    tensors = {name: torch.from_numpy(checkpoint.tensor(name)).float() for name in model.state_dict()}
    model.load_state_dict(tensors)
    return model


def save_checkpoint(
    model: HGRNBitForCausalLM, tokenizer_file: str | Path | None, folder: str | Path, dtype: torch.dtype = torch.float32
) -> None:
    """Write config.json, model.safetensors (`dtype`) and, if given, tokenizer.json; each appears whole or not at all.

    The folder is what `tritape.model.checkpoint.load_checkpoint`, `load_model` and the released code read.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    tensors = {name: value.detach().to("cpu", dtype).contiguous() for name, value in model.state_dict().items()}
    with replacing(folder / "config.json") as stream:
        stream.write((json.dumps(model.config.to_dict(), indent=1) + "\n").encode())
    with replacing(folder / "model.safetensors") as stream:
        stream.write(save({name: value.clone() for name, value in tensors.items()}, {"format": "pt"}))
    if tokenizer_file is not None:
        source = Path(tokenizer_file)
        if not source.is_file():
            raise TritapeError(f"{source}: tokenizer must be a file, not missing; give the tokenizer.json to store")
        if source.resolve() != (folder / "tokenizer.json").resolve():
            shutil.copyfile(source, folder / "tokenizer.json")
