"""How a run's figure depends on where it is measured: devices, float32 and float64, latent weights and released ones.

    python -m tritape.train.rounding build/runs/nano build/corpus/austen.valid.txt

Training drives latent weights to the thresholds of rounding and leaves thousands within a rounding error of one. Their
ternary values come from a rule that is the same to the bit everywhere (`tritape.train.ternary.threshold`), so the counts
of weights that differ should be zero. Float64 is the judge.
"""

from __future__ import annotations

import json
import tempfile
from pathlib import Path
from typing import Annotated, Any

import torch
import typer

from tritape.base.errors import TritapeError
from tritape.base.json_text import json_text
from tritape.train.bench import run
from tritape.train.evaluate import bits_per_byte
from tritape.train.model import HGRNBitForCausalLM, load_model
from tritape.train.plain import BitLinear
from tritape.train.recipe import Recipe
from tritape.train.ternary.threshold import ternary
from tritape.train.trainer import load_run

DISTANCES = (1e-7, 1e-6, 1e-5, 1e-4)
"""Distances of abs(W) / scale from the threshold 1/2."""


def near_threshold(model: HGRNBitForCausalLM, device: str) -> dict[str, Any]:
    """Latent weights near the threshold, and how many `device` in float32, the CPU in float32 and float64 disagree on."""
    counts: dict[str, Any] = {"weights": 0, "cpu_differs": 0, "float64_differs": 0}
    counts |= {f"within_{distance:g}": 0 for distance in DISTANCES}
    for module in model.modules():
        if isinstance(module, BitLinear):
            weight = module.weight.detach().cpu()
            there = _ternary(weight.to(device)).cpu()
            counts["weights"] += weight.numel()
            counts["cpu_differs"] += int((_ternary(weight) != there).sum())
            counts["float64_differs"] += int((_ternary(weight.double()) != there).sum())
            away = (weight.double().abs() / weight.double().abs().mean() - 0.5).abs()
            for distance in DISTANCES:
                counts[f"within_{distance:g}"] += int((away < distance).sum())
    return counts


def _ternary(weight: torch.Tensor) -> torch.Tensor:
    return ternary(weight)[0].to(torch.int8)


def main(
    folder: Annotated[Path, typer.Argument(help="folder of a finished ternary run")],
    text: Annotated[Path, typer.Argument(help="a UTF-8 text file")],
    json_file: Annotated[Path | None, typer.Option("--json", help="write the figures here")] = None,
) -> None:
    """Print bits per byte of latent and released weights on each device in both precisions, and the counts."""
    for path in (folder / "recipe.json", text):
        if not path.is_file():
            raise TritapeError(f"{path}: file must exist, not be missing; give a finished run and a text")
    recipe = Recipe.from_dict(json.loads((folder / "recipe.json").read_text()), folder.name, str(folder))
    latent = load_run(recipe, folder)
    if not isinstance(latent, HGRNBitForCausalLM) or recipe.model.precision != "ternary":
        raise TritapeError(f"{folder}: run must be of ternary weights, not of others; give another")
    devices = ["cuda", "cpu"] if torch.cuda.is_available() else ["cpu"]
    figures: dict[str, Any] = {"run": folder.name, "text": text.name, **near_threshold(latent, devices[0])}
    with tempfile.TemporaryDirectory() as cache:
        for name in ("latent", "released"):
            for device in devices:
                for dtype in (torch.float32, torch.float64):
                    model = load_run(recipe, folder) if name == "latent" else load_model(folder).eval()
                    model = model.to(device=device, dtype=dtype)
                    value = bits_per_byte(model, folder / "tokenizer.json", text.read_text(), Path(cache), 0)
                    figures[f"{name}, {device}, {str(dtype).removeprefix('torch.')}"] = value
    print(json_text(figures, 1))
    if json_file is not None:
        json_file.write_text(json_text(figures, 1) + "\n")


if __name__ == "__main__":
    run(main)
