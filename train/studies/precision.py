"""Weight precision: models trained with binary, ternary, int4 and float weights, and each turned into the others.

One shape (that of `small` with 512 ids), the novels, 1,500 steps; activations are int8 except under float weights.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tritape.train.evaluate import bits_per_byte
from tritape.train.precision import QUANTISERS, set_precision
from tritape.train.recipe import Recipe
from tritape.train.trainer import load_run, prepare

LEARNING_RATES = {"binary": 4e-3, "ternary": 4e-3, "int4": 4e-3, "float": 2e-3}


def recipes() -> dict[str, dict[str, Any]]:
    """The four runs by name."""
    return {
        f"precision-{precision}": {
            "model": {
                "vocab_size": 512,
                "hidden_size": 130,
                "num_hidden_layers": 4,
                "intermediate_size": 390,
                "precision": precision,
            },
            "train": {"learning_rate": rate},
            "phases": [{"steps": 1500, "sources": ["austen"]}],
        }
        for precision, rate in LEARNING_RATES.items()
    }


def after_training(corpus: Path, work: Path, device: str) -> dict[str, dict[str, float]]:
    """Bits per byte by trained precision, then by the precision that its latent weights are rounded to afterwards."""
    table: dict[str, dict[str, float]] = {}
    for name, raw in recipes().items():
        recipe = Recipe.from_dict(raw, name)
        tokenizer, _, valid = prepare(recipe, corpus, work)
        row = table[recipe.model.precision] = {}
        for precision in QUANTISERS:
            model = load_run(recipe, work / name).to(device)
            set_precision(model, precision)
            row[precision] = bits_per_byte(model, tokenizer, valid, work, recipe.train.sequence)
    return table
