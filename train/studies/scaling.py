"""Loss against size and against compute: MatMul-free models and Transformers of equal shapes and data.

Both see the same crops of all sources under the same schedule; each kind has one learning rate. Loss is bits per byte of
all sources' validation text. Compute is 6 * (parameters without embedding) * tokens.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from tritape.train.data.sources import SOURCES

SHAPES = {64: (3, 176), 128: (4, 352), 256: (4, 704), 384: (6, 1040)}
"""Hidden size -> (layers, intermediate size)."""
STEPS = (500, 2000)
KINDS = {"hgrn_bit": 4e-3, "transformer": 2e-3}
"""Kind -> learning rate."""
VOCABULARY, BATCH_TOKENS = 512, 32 * 512


def recipes() -> dict[str, dict[str, Any]]:
    """The 16 runs by name."""
    return {
        f"scale-{kind}-{hidden}-{steps}": {
            "model": {
                "vocab_size": VOCABULARY,
                "hidden_size": hidden,
                "num_hidden_layers": layers,
                "intermediate_size": inner,
                "kind": kind,
            },
            "train": {"learning_rate": rate, "warmup": 100},
            "phases": [{"steps": steps, "sources": list(SOURCES)}],
        }
        for steps in STEPS
        for hidden, (layers, inner) in SHAPES.items()
        for kind, rate in KINDS.items()
    }


def fit_power(size: np.ndarray, loss: np.ndarray) -> tuple[float, float, float]:
    """(floor, factor, exponent) of the curve floor + factor * size^-exponent that fits best.

    For each exponent of a grid the other two are linear least squares; the floor is not below zero.
    """
    best: tuple[float, float, float, float] | None = None
    for exponent in np.linspace(0.02, 1.5, 297):
        power = (size / size.min()) ** -exponent
        matrix = np.stack([np.ones_like(power), power], axis=1)
        (floor, factor), *_ = np.linalg.lstsq(matrix, loss, rcond=None)
        if floor < 0:
            floor, factor = 0.0, float(power @ loss / (power @ power))
        error = float(np.square(floor + factor * power - loss).sum())
        if best is None or error < best[0]:
            best = error, float(floor), float(factor * size.min() ** exponent), float(exponent)
    assert best is not None
    return best[1:]


def summarise(results: dict[str, dict[str, Any]]) -> dict[str, Any]:
    """Points of each kind, and the curve over size at the longest training."""
    kinds: dict[str, Any] = {}
    for kind in KINDS:
        points = []
        for hidden in SHAPES:
            for steps in STEPS:
                result = results.get(f"scale-{kind}-{hidden}-{steps}", {})
                if "valid_bits_per_byte" in result:
                    size = result["parameters"] - VOCABULARY * hidden
                    points.append(
                        {
                            "hidden": hidden,
                            "steps": steps,
                            "parameters": size,
                            "flops": 6.0 * size * steps * BATCH_TOKENS,
                            "bits_per_byte": result["valid_bits_per_byte"],
                        }
                    )
        longest = [p for p in points if p["steps"] == max(STEPS)]
        size, loss = (np.array([p[key] for p in longest], float) for key in ("parameters", "bits_per_byte"))
        floor, factor, exponent = fit_power(size, loss)
        kinds[kind] = {"points": points, "fit": {"floor": floor, "factor": factor, "exponent": exponent}}
    return kinds


def plot(summary: dict[str, Any], path: Path) -> None:
    """Both curves over size and over compute."""
    from tritape.train.plots import figure, save_figure

    picture = figure(9.6, 4.0)
    left, right = picture.subplots(1, 2)
    for (kind, entry), colour in zip(summary.items(), ("tab:blue", "tab:orange")):
        for axis, key in ((left, "parameters"), (right, "flops")):
            for steps, style in zip(STEPS, ("o:", "s-")):
                chosen = [p for p in entry["points"] if p["steps"] == steps]
                values = [p["bits_per_byte"] for p in chosen]
                label = f"{kind}, {steps} steps" if axis is left else None
                axis.plot([p[key] for p in chosen], values, style, color=colour, label=label)
        sizes = np.geomspace(1e5, 2e7, 50)
        fit = entry["fit"]
        left.plot(sizes, fit["floor"] + fit["factor"] * sizes ** -fit["exponent"], color=colour, alpha=0.4)
    left.set(xscale="log", xlabel="parameters without embedding", ylabel="bits per byte, validation")
    right.set(xscale="log", xlabel="training FLOP (6 N D)")
    left.legend(fontsize=8)
    save_figure(picture, path)
