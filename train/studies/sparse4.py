"""3:4 weights (`sparse4`, 1.25 bits) against dense ternary ones (1.6 bits): at equal bytes, at equal weights, forced.

Every row of `ROWS` is one configuration, trained with three seeds (large models with two or one). Shapes at equal bytes
differ by less than half a percent. Forcing reads the latent weights of a finished dense run as 3:4, without training.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from statistics import fmean, variance
from typing import Any

from tritape.model.config import ModelConfig
from tritape.model.tape.layout import ternary_weights
from tritape.train.data.sources import SOURCES
from tritape.train.evaluate import bits_per_byte
from tritape.train.precision import set_precision
from tritape.train.recipe import Recipe, load_recipe
from tritape.train.trainer import load_run, prepare

BITS = {"ternary": 1.6, "sparse4": 1.25}
"""Bits a weight on the tape: five weights a byte, four weights in five bits."""
RESIDUAL = {"residual": 0.5}
NOVELS, ALL = ("austen",), tuple(SOURCES)
FORCED = "forced-"


@dataclass(frozen=True)
class Row:
    """One configuration: what is compared (`group`), under which key, with which shape and which entries of [train]."""

    group: str
    key: str
    shape: tuple[int, int, int, int]
    steps: int = 4000
    precision: str = "sparse4"
    train: dict[str, Any] = field(default_factory=lambda: dict(RESIDUAL))
    rate: float = 12e-3
    sources: tuple[str, ...] = NOVELS
    taught: bool = False
    seeds: int = 3

    @property
    def weights(self) -> int:
        """Ternary weights that a token reads."""
        vocabulary, hidden, layers, inner = self.shape
        return ternary_weights(ModelConfig(vocabulary, hidden, layers, inner))

    @property
    def bytes(self) -> int:
        """Their bytes on the tape."""
        return round(self.weights * BITS[self.precision] / 8)

    def names(self) -> list[str]:
        """The runs of this row, one a seed."""
        return [f"sparse4-{self.key}-{seed}" for seed in range(1, self.seeds + 1)]

    def recipe(self, seed: int) -> dict[str, Any]:
        """The recipe of one run."""
        vocabulary, hidden, layers, inner = self.shape
        raw: dict[str, Any] = {
            "model": {
                "vocab_size": vocabulary,
                "hidden_size": hidden,
                "num_hidden_layers": layers,
                "intermediate_size": inner,
                "precision": self.precision,
            },
            "train": {"learning_rate": self.rate, "seed": seed, **self.train},
            "phases": [{"steps": self.steps, "sources": list(self.sources)}],
        }
        if self.taught:
            raw["teacher"] = {"recipes": ["teacher"], "weight": 0.75}
        return raw


def _dense(group: str, key: str, shape: tuple[int, int, int, int], **options: Any) -> Row:
    return Row(group, key, shape, precision="ternary", train={}, **options)


SMALL, EQUAL_WEIGHTS, EQUAL_BYTES = (512, 130, 4, 390), (512, 132, 4, 396), (512, 148, 4, 444)


def _small(steps: int) -> list[Row]:
    group, k = f"recipe of small without teacher, {steps:,} steps", steps // 1000
    return [
        _dense(group, f"dense-{k}k", SMALL, steps=steps),
        Row(group, f"bytes-residual-{k}k", EQUAL_BYTES, steps),
        Row(group, f"weights-residual-{k}k", EQUAL_WEIGHTS, steps),
        Row(group, f"bytes-{k}k", EQUAL_BYTES, steps, train={}),
        Row(group, f"weights-{k}k", EQUAL_WEIGHTS, steps, train={}),
    ]


def _taught() -> list[Row]:
    group = "recipe of small with its teacher, 12,000 steps"
    options: dict[str, Any] = {"steps": 12000, "taught": True}
    return [
        _dense(group, "taught-dense", SMALL, **options),
        Row(group, "taught-bytes-residual", EQUAL_BYTES, **options),
        Row(group, "taught-weights-residual", EQUAL_WEIGHTS, **options),
        Row(group, "taught-bytes", EQUAL_BYTES, train={}, **options),
        Row(group, "taught-bytes-rate-18", EQUAL_BYTES, train={**RESIDUAL, "learning_rate": 18e-3}, **options),
        _dense(group, "taught-dense-rate-18", SMALL, rate=18e-3, **options),
        Row(group, "taught-bytes-decay-3", EQUAL_BYTES, train={**RESIDUAL, "weight_decay": 0.03}, **options),
    ]


def _base() -> list[Row]:
    group = "recipe of base, 3,500 steps"
    options: dict[str, Any] = {"steps": 3500, "rate": 4e-3, "sources": ALL}
    return [
        _dense(group, "base-dense", (2048, 320, 4, 720), **options),
        Row(group, "base-bytes-residual", (2048, 364, 4, 824), **options),
        Row(group, "base-weights-residual", (2048, 320, 4, 720), **options),
    ]


def _wide() -> list[Row]:
    group = "too large for the novels: 256 x 4, 4,000 steps"
    shape = (512, 256, 4, 768)
    return [
        _dense(group, "wide-dense", shape),
        Row(group, "wide-weights-residual", shape),
        Row(group, "wide-weights", shape, train={}),
    ]


def _all_sources() -> list[Row]:
    rows = []
    for dense, equal in (
        ((512, 256, 4, 704), (512, 288, 4, 812)),
        ((512, 384, 6, 1040), (512, 432, 6, 1192)),
        ((512, 512, 8, 1360), (512, 576, 8, 1552)),
    ):
        group, key = f"all sources, {dense[1]} x {dense[2]}, 4,000 steps", f"all-{dense[1]}"
        options: dict[str, Any] = {"rate": 4e-3, "sources": ALL, "seeds": 1 if dense[1] == 512 else 2}
        rows += [
            _dense(group, f"{key}-dense", dense, **options),
            Row(group, f"{key}-bytes-residual", equal, **options),
            Row(group, f"{key}-weights-residual", dense, **options),
        ]
    return rows


ANNEALINGS: dict[str, dict[str, Any]] = {
    "quarter": {"residual": 0.25},
    "one": {"residual": 1.0},
    "until-90": {"residual": 0.5, "residual_share": 0.9},
    "cosine-90": {"residual": 0.5, "residual_share": 0.9, "residual_curve": "cosine"},
    "from-dense": {"residual": 1.0, "residual_kind": "ternary"},
    "rate-8": {**RESIDUAL, "learning_rate": 8e-3},
    "rate-18": {**RESIDUAL, "learning_rate": 18e-3},
}
"""Other residuals and learning rates than 0.5, linear to zero at 60 %, and 12e-3."""


def _annealings() -> list[Row]:
    group = "equal bytes, other residuals and learning rates, 4,000 steps"
    return [Row(group, f"anneal-{key}", EQUAL_BYTES, train=train) for key, train in ANNEALINGS.items()]


_ALL_SOURCES = _all_sources()
ROWS = [*_small(4000), *_small(12000), *_taught(), *_base(), *_ALL_SOURCES[:-3], *_wide(), *_annealings()]
ROWS += _ALL_SOURCES[-3:]  # last, because they take longest


def recipes() -> dict[str, dict[str, Any]]:
    """The runs by name, the teacher first."""
    runs = {"teacher": load_recipe("teacher").to_dict()}
    for row in ROWS:
        runs |= {name: row.recipe(seed) for seed, name in enumerate(row.names(), 1)}
    return runs


def force(known: set[str], corpus: Path, work: Path, device: str, done: Callable[[str, dict[str, Any]], None]) -> None:
    """Tell `done` the validation figure of every finished dense run in `work` whose latent weights are read as 3:4."""
    for row in ROWS:
        for seed, name in enumerate(row.names(), 1):
            if row.precision == "sparse4" or FORCED + name in known or not (work / name / "result.json").is_file():
                continue
            recipe = Recipe.from_dict(row.recipe(seed), name)
            tokenizer, _, valid = prepare(recipe, corpus, work)
            model = load_run(recipe, work / name).to(device)
            set_precision(model, "sparse4")
            value = bits_per_byte(model.eval(), tokenizer, valid, work, recipe.train.sequence)
            done(FORCED + name, {"recipe": name, "valid_bits_per_byte": value})


def summarise(results: dict[str, dict[str, Any]]) -> dict[str, Any]:
    """Per group and row: shape, weights, bytes, bits per byte of each seed, their mean, and its distance from the dense row."""
    groups: dict[str, Any] = {}
    for row in ROWS:
        group = groups.setdefault(row.group, {})
        for key, prefix in ((row.key, ""), (FORCED + row.key, FORCED)):
            values = [results[prefix + n]["valid_bits_per_byte"] for n in row.names() if prefix + n in results]
            if values:
                precision = "sparse4" if prefix else row.precision
                group[key] = {
                    "shape": list(row.shape),
                    "precision": precision,
                    "weights": row.weights,
                    "bytes": round(row.weights * BITS[precision] / 8),
                    "bits_per_byte": values,
                    "mean": fmean(values),
                }
                if curve := _curve([results[n] for n in row.names() if n in results and not prefix]):
                    group[key]["curve"] = [(step, fmean(points)) for step, points in curve]
    reference = groups[ROWS[0].group]
    for name, group in groups.items():
        rows = group if any(entry["precision"] == "ternary" for entry in group.values()) else {**reference, **group}
        dense = next((entry["mean"] for entry in rows.values() if entry["precision"] == "ternary"), None)
        for entry in group.values():
            entry["against_dense"] = None if dense is None else entry["mean"] - dense
        groups[name] = dict(sorted(group.items(), key=lambda item: item[0].startswith(FORCED)))
    groups = {name: group for name, group in groups.items() if group}
    trained = [e["bits_per_byte"] for g in groups.values() for key, e in g.items() if not key.startswith(FORCED)]
    spread = [variance(values) for values in trained if len(values) > 1]
    deviation = fmean(spread) ** 0.5 if spread else None
    error = None if deviation is None else deviation * (2 / 3) ** 0.5
    return {"groups": groups, "deviation_of_a_seed": deviation, "error_of_a_difference": error}


def _curve(runs: list[dict[str, Any]]) -> list[tuple[int, list[float]]]:
    """(step, bits per byte of each run) where the runs of a row were measured."""
    curves = [run["curve"] for run in runs if "curve" in run]
    return [(column[0][0], [value for _, value in column]) for column in zip(*curves)]


def printable(summary: dict[str, Any]) -> dict[str, Any]:
    """The summary as lines: weights, bytes, the seeds, their mean and its distance from the first dense row of the group."""
    lines: dict[str, Any] = {
        name: {
            key: "{:,} weights, {:,} bytes: {} mean {:.4f} ({:+.4f})".format(
                entry["weights"],
                entry["bytes"],
                " ".join(f"{value:.4f}" for value in entry["bits_per_byte"]),
                entry["mean"],
                entry["against_dense"] or 0.0,
            )
            for key, entry in group.items()
        }
        for name, group in summary["groups"].items()
    }
    lines["standard deviation of a seed, pooled"] = summary["deviation_of_a_seed"]
    lines["standard error of the difference of two means of three"] = summary["error_of_a_difference"]
    return lines


CURVES = (
    ("without teacher", {"dense-12k": "-", "bytes-residual-12k": "-", "bytes-12k": ":", "weights-residual-12k": "--"}),
    ("with teacher", {"taught-dense": "-", "taught-bytes-residual": "-", "taught-bytes": ":"}),
)
"""Panels of the figure: title, and the line style of each row's key."""


def plot(results: dict[str, dict[str, Any]], path: Path) -> None:
    """Validation curves of 12,000 steps (mean of the seeds and their span), and bits per byte over bytes of weights."""
    from tritape.train.plots import figure, save_figure

    picture = figure(12.0, 3.8)
    *panels, right = picture.subplots(1, 3)
    colours = {"ternary": "tab:blue", "sparse4": "tab:orange"}
    for axis, (title, shown) in zip(panels, CURVES):
        for row in (row for row in ROWS if row.key in shown):
            curve = _curve([results[name] for name in row.names() if name in results])
            if not curve:
                continue
            steps, points = zip(*curve)
            colour = colours[row.precision]
            axis.plot(steps, [fmean(p) for p in points], shown[row.key], color=colour, label=row.key)
            axis.fill_between(steps, [min(p) for p in points], [max(p) for p in points], color=colour, alpha=0.2)
        axis.set(xlabel="step", ylim=(1.34, 1.76), title=f"small {title}")
        if axis.lines:
            axis.legend(fontsize=8)
    panels[0].set_ylabel("bits per byte, validation")
    for precision, colour in colours.items():
        rows = [row for row in ROWS if row.key.startswith("all-") and row.precision == precision]
        means = []
        for row in rows:
            values = [results[name]["valid_bits_per_byte"] for name in row.names() if name in results]
            means += [(row.bytes / 1e6, fmean(values))] if values else []
        right.plot(*zip(*sorted(means)) if means else ([], []), "o-", color=colour, fillstyle="none", label=precision)
    right.set(xscale="log", xlabel="bytes of weights a token, millions", title="all sources, 4,000 steps")
    right.set_xticks([0.5, 1, 2, 5], ["0.5", "1", "2", "5"])
    right.minorticks_off()
    right.legend(fontsize=8)
    save_figure(picture, path)
