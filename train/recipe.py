"""A recipe: everything that a training run depends on besides the corpus, as one small TOML file.

[model]      kind ("hgrn_bit" or "transformer"), vocab_size, hidden_size, num_hidden_layers, intermediate_size,
             precision ("ternary", "sparse4", ...), dropout (0; transformer only), shared_gain (false)
[train]      seed, sequence (tokens), batch (sequences), learning_rate, warmup (steps), weight_decay, muon,
             residual (0), residual_share (0.6), residual_curve ("linear" or "cosine"), residual_kind ("latent" or
             "ternary"); for sparse4
[[phases]]   steps, sources (names from tritape.train.data.sources, or text files, from the recipe's folder on); phases
             follow one another under one schedule
[teacher]    recipes (runs beside this one), weight (of the teachers' distribution in the target)  - optional
"""

from __future__ import annotations

import dataclasses
import json
import tomllib
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any

from tritape.base.errors import TritapeError
from tritape.base.files import decode_text
from tritape.model.config import ModelConfig
from tritape.train.data.own import is_own, label
from tritape.train.data.sources import SOURCES

KINDS = ("hgrn_bit", "transformer")


@dataclass(frozen=True)
class ModelRecipe:
    """Shape and precision of the model. The tokenizer is trained to `vocab_size` on the sources of the last phase.

    `shared_gain`: i, f and g of a layer have one inner gain, so that they quantise their input to the same numbers.
    """

    vocab_size: int
    hidden_size: int
    num_hidden_layers: int
    intermediate_size: int
    kind: str = "hgrn_bit"
    precision: str = "ternary"
    dropout: float = 0.0
    shared_gain: bool = False

    @property
    def config(self) -> ModelConfig:
        """The shape as the rest of the project knows it."""
        return ModelConfig(self.vocab_size, self.hidden_size, self.num_hidden_layers, self.intermediate_size)


@dataclass(frozen=True)
class TrainRecipe:
    """The optimisation: AdamW (or Muon for the matrices), linear warm-up, cosine to zero over the steps of all phases.

    `residual`: factor of what training adds to 3:4 weights (`residual_kind`, see `tritape.train.precision`); it falls to
    zero over the first `residual_share` of the steps.
    """

    learning_rate: float = 4e-3
    weight_decay: float = 0.1
    muon: bool = False
    warmup: int = 200
    sequence: int = 512
    batch: int = 32
    seed: int = 1
    residual: float = 0.0
    residual_share: float = 0.6
    residual_curve: str = "linear"
    residual_kind: str = "latent"


@dataclass(frozen=True)
class Phase:
    """A stretch of training on some sources, each weighed by its length."""

    steps: int
    sources: tuple[str, ...]


@dataclass(frozen=True)
class Teacher:
    """Runs whose mean distribution is mixed into the target: (1 - weight) * one-hot + weight * teachers."""

    recipes: tuple[str, ...]
    weight: float = 0.5


@dataclass(frozen=True)
class Recipe:
    """One run. `name` is the file's, and that of the run's folder."""

    name: str
    model: ModelRecipe
    train: TrainRecipe
    phases: tuple[Phase, ...]
    teacher: Teacher | None = None

    @property
    def steps(self) -> int:
        """Steps of all phases together."""
        return sum(phase.steps for phase in self.phases)

    @property
    def sources(self) -> list[str]:
        """Every source of every phase, once."""
        return list(dict.fromkeys(name for phase in self.phases for name in phase.sources))

    @property
    def tokenizer_name(self) -> str:
        """File name of the tokenizer: recipes of one vocabulary that end on the same sources share it."""
        return f"tokenizer-{self.model.vocab_size}-{'+'.join(sorted(map(label, self.phases[-1].sources)))}.json"

    @classmethod
    def from_file(cls, path: Path) -> Recipe:
        """Read a TOML (or JSON) file. Raises TritapeError naming the file and the entry."""
        try:
            text = decode_text(path.read_bytes(), str(path), "recipe")
            raw = json.loads(text) if path.suffix == ".json" else tomllib.loads(text)
        except FileNotFoundError:
            known = ", ".join(sorted(names()))
            raise TritapeError(f"{path}: recipe must be a file or one of {known}, not missing; correct it") from None
        except TritapeError:
            raise
        except (ValueError, OSError) as error:
            raise TritapeError(f"{path}: recipe must be TOML, not damaged ({error}); correct it") from None
        return cls.from_dict(raw, path.stem, str(path), path.parent)

    @classmethod
    def from_dict(cls, raw: dict[str, Any], name: str, where: str = "recipe", folder: Path = Path()) -> Recipe:
        """Check the entries of a parsed recipe; `where` is the file that errors name, `folder` where texts are named from."""
        known = {"model", "train", "phases", "teacher"}
        if extra := sorted(set(raw) - known):
            raise TritapeError(f"{where}: section must be one of {', '.join(sorted(known))}, not {extra[0]!r}; drop it")
        phases = raw.get("phases")
        if not isinstance(phases, (list, tuple)) or not phases:
            raise TritapeError(f"{where}: phases must be a list of at least one, not {phases!r}; add [[phases]]")
        teacher = raw.get("teacher")
        recipe = cls(
            name,
            _section(ModelRecipe, raw.get("model"), f"{where}: model"),
            _section(TrainRecipe, raw.get("train", {}), f"{where}: train"),
            tuple(_with_paths(_section(Phase, phase, f"{where}: phases"), folder) for phase in phases),
            None if teacher is None else _section(Teacher, teacher, f"{where}: teacher"),
        )
        recipe._check(where)
        return recipe

    def to_dict(self) -> dict[str, Any]:
        """What `from_dict` reads back, JSON-ready."""
        raw = dataclasses.asdict(self)
        del raw["name"]
        if raw["teacher"] is None:
            del raw["teacher"]
        return raw

    def _check(self, where: str) -> None:
        if self.model.kind not in KINDS:
            raise TritapeError(
                f"{where}: model.kind must be one of {', '.join(KINDS)}, not {self.model.kind!r}; choose"
            )
        if self.model.dropout and self.model.kind != "transformer":
            raise TritapeError(f"{where}: model.dropout must be 0 for hgrn_bit, not {self.model.dropout}; leave it out")
        if self.model.shared_gain and self.model.kind != "hgrn_bit":
            raise TritapeError(f"{where}: model.shared_gain must be false for transformer, not true; leave it out")
        self._check_residual(where)
        for source in self.sources:
            if is_own(source) and not Path(source).is_file():
                raise TritapeError(
                    f"{where}: source must be one of {', '.join(SOURCES)}, or a text file, not {source!r}; correct it"
                )

    def _check_residual(self, where: str) -> None:
        train = self.train
        if train.residual and self.model.precision != "sparse4":
            raise TritapeError(
                f"{where}: train.residual must be 0 for {self.model.precision} weights, not {train.residual}; "
                'leave it out, or set model.precision to "sparse4"'
            )
        if not 0 < train.residual_share <= 1:
            raise TritapeError(
                f"{where}: train.residual_share must be above 0 and at most 1, not {train.residual_share}; correct it"
            )
        for key, known in (("residual_curve", ("linear", "cosine")), ("residual_kind", ("latent", "ternary"))):
            if (value := getattr(train, key)) not in known:
                raise TritapeError(f"{where}: train.{key} must be one of {', '.join(known)}, not {value!r}; choose")


def _with_paths(phase: Phase, folder: Path) -> Phase:
    """The phase with whole paths of its text files."""
    sources = (str((folder / source).resolve()) if is_own(source) else source for source in phase.sources)
    there = (path if Path(path).is_file() else source for path, source in zip(sources, phase.sources))
    return dataclasses.replace(phase, sources=tuple(there))


def names() -> list[str]:
    """The recipes that come with the package."""
    return [entry.name.removesuffix(".toml") for entry in _folder().iterdir() if entry.name.endswith(".toml")]


def load_recipe(name: str) -> Recipe:
    """A recipe of the package by name, or a TOML file by path."""
    if name in names():
        with resources.as_file(_folder() / f"{name}.toml") as path:
            return Recipe.from_file(path)
    return Recipe.from_file(Path(name))


def _folder() -> Any:
    return resources.files("tritape.train.recipes")


def _section(kind: type[Any], raw: Any, where: str) -> Any:
    """An instance of a dataclass from a TOML table, every entry of the field's type."""
    if not isinstance(raw, dict):
        raise TritapeError(f"{where} must be a table, not {raw!r}; add it")
    fields = {field.name: field for field in dataclasses.fields(kind)}
    values = {}
    for key, value in raw.items():
        if key not in fields:
            raise TritapeError(f"{where}: entry must be one of {', '.join(fields)}, not {key!r}; correct it")
        wanted = str(fields[key].type)
        if wanted.startswith("tuple") and isinstance(value, (list, tuple)) and all(isinstance(v, str) for v in value):
            values[key] = tuple(value)
            continue
        good = {
            "int": isinstance(value, int) and not isinstance(value, bool) and value >= (0 if key == "seed" else 1),
            "float": isinstance(value, (int, float)) and not isinstance(value, bool) and value >= 0,
            "bool": isinstance(value, bool),
            "str": isinstance(value, str),
        }
        if not good.get(wanted, False):
            raise TritapeError(f"{where}.{key} must be a valid {wanted}, not {value!r}; correct it")
        values[key] = value
    for key, field in fields.items():
        if key not in values and field.default is dataclasses.MISSING:
            raise TritapeError(f"{where}.{key} must be given, not missing; add it")
    return kind(**values)
