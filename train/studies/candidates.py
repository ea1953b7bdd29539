"""What was tried for `small`: vocabulary, one inner gain, teachers, the schedule; chosen on the validation text."""

from __future__ import annotations

from typing import Any

from tritape.train.recipe import load_recipe


def recipes() -> dict[str, dict[str, Any]]:
    """The runs by name, the teachers first; `long-rate12` is the recipe `small`."""
    teacher = load_recipe("teacher").to_dict()
    model = {"vocab_size": 512, "hidden_size": 130, "num_hidden_layers": 4, "intermediate_size": 390}
    large = {"hidden_size": 512, "num_hidden_layers": 8, "intermediate_size": 1360, "dropout": 0.2}

    def run(
        *teachers: str, weight: float = 0.75, steps: int = 4000, shape: dict[str, Any] | None = None, **train: Any
    ) -> dict[str, Any]:
        raw: dict[str, Any] = {"model": {**model, **(shape or {})}, "train": {"learning_rate": 8e-3, **train}}
        raw["phases"] = [{"steps": steps, "sources": ["austen"]}]
        if teachers:
            raw["teacher"] = {"recipes": list(teachers), "weight": weight}
        return raw

    return {
        "teacher": teacher,
        "teacher-2": {**teacher, "train": {**teacher["train"], "seed": 13}},
        "teacher-large": {**teacher, "model": {**teacher["model"], **large}},
        "untaught": run(),
        "shared": run(shape={"shared_gain": True}),
        "v640": run(shape={"vocab_size": 640}),
        "taught": run("teacher"),
        "two": run("teacher", "teacher-2"),
        "long": run("teacher", steps=12000),
        "long-weight100": run("teacher", steps=12000, weight=1.0),
        "long-decay2": run("teacher", steps=12000, weight_decay=0.02),
        "long-rate12": run("teacher", steps=12000, learning_rate=12e-3),
    }
