"""What was tried for `small`: optimiser, learning rate, vocabulary, more text, a teacher; one change at a time."""

from __future__ import annotations

from typing import Any

from tritape.train.data.sources import SOURCES
from tritape.train.recipe import load_recipe


def recipes() -> dict[str, dict[str, Any]]:
    """The runs by name, 3,000 steps each, the teacher first."""
    model = {"vocab_size": 512, "hidden_size": 130, "num_hidden_layers": 4, "intermediate_size": 390}
    novels = [{"steps": 3000, "sources": ["austen"]}]
    mixed = [{"steps": 1500, "sources": list(SOURCES)}, {"steps": 1500, "sources": ["austen"]}]
    teacher = load_recipe("tiny-teacher").to_dict()
    adam = {**teacher, "train": {"learning_rate": 1.5e-3, "seed": 11}}
    return {
        "teacher-adam": adam,
        "tiny-teacher": teacher,
        "s-adam": {"model": model, "train": {}, "phases": novels},
        "s-muon": {"model": model, "train": {"muon": True}, "phases": novels},
        "s-lr8": {"model": model, "train": {"learning_rate": 8e-3}, "phases": novels},
        "s-mix": {"model": model, "train": {}, "phases": mixed},
        "s-v1024": {"model": {**model, "vocab_size": 1024}, "train": {}, "phases": novels},
        "s-taught": {
            "model": model,
            "train": {},
            "phases": novels,
            "teacher": {"recipes": ["teacher-adam"], "weight": 0.6},
        },
    }
