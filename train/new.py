"""`tritape-train new`: a folder with a recipe and the texts it trains on, so that three commands lead to a tape."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path

from tritape.base.errors import TritapeError
from tritape.base.files import read_text, replacing
from tritape.train.data.own import MIN_CHARACTERS, parts
from tritape.train.recipe import ModelRecipe, Recipe, TrainRecipe, load_recipe
from tritape.train.tokenize import filled

CHARACTERS_PER_TOKEN = 2.5
"""At least, with a small vocabulary: a cautious guess, so that a batch is filled."""
EPOCHS = 60
"""Of a small text; a large one has the steps of the recipe that is followed."""
MIN_STEPS = 300
ENOUGH_CHARACTERS = 1_000_000
"""Of texts that fill any of the vocabularies."""


def new_project(folder: Path, texts: Sequence[Path], like: str, steps: int | None = None) -> Path:
    """Write `folder`/NAME.toml and `folder`/texts, NAME being the folder's own; returns the recipe's path.

    `like`: a recipe of the package, whose shape and optimisation are taken, without its teacher. Batch and length of sequences
    are what the texts fill. Raises TritapeError for a folder that is not empty, texts that are none or too short.
    """
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise TritapeError(f"{folder}: folder must be new or empty, not hold other files; choose another")
    name = folder.resolve().name
    model = load_recipe(like)
    if model.model.kind != "hgrn_bit":
        raise TritapeError(f"like must be a recipe of type hgrn_bit, which tritape runs, not {like!r}; take small")
    if not texts:
        raise TritapeError("texts must be at least one file, not none; give their paths")
    contents: dict[str, str] = {}
    for path in texts:
        text = read_text(path)
        if len(text) < MIN_CHARACTERS:
            raise TritapeError(
                f"{path}: text must have at least {MIN_CHARACTERS} characters, not {len(text)}; join it with another"
            )
        own = path.stem
        while f"{own}.txt" in contents:
            own += "-2"
        contents[f"{own}.txt"] = text if text.endswith("\n") else text + "\n"
    shape = dataclasses.replace(model.model, vocab_size=_vocabulary(list(contents.values()), model.model.vocab_size))
    train, chosen = _fitting(sum(map(len, contents.values())), model.train, model.steps, steps)
    (folder / "texts").mkdir(parents=True)
    for file, text in contents.items():
        with replacing(folder / "texts" / file) as stream:
            stream.write(text.encode())
    recipe = folder / f"{name}.toml"
    with replacing(recipe) as stream:
        stream.write(_toml(shape, train, chosen, list(contents), like).encode())
    Recipe.from_file(recipe)
    return recipe


def _vocabulary(texts: list[str], wanted: int) -> int:
    """The ids that the training part of short texts fills, at most those wanted."""
    if sum(map(len, texts)) > ENOUGH_CHARACTERS:
        return wanted
    return filled([parts(text).train for text in texts], wanted)


def _fitting(characters: int, train: TrainRecipe, most: int, steps: int | None) -> tuple[TrainRecipe, int]:
    """Batch and sequence that a text of this length fills, and steps for `EPOCHS` of it."""
    tokens = int(0.95 * characters / CHARACTERS_PER_TOKEN)
    sequence, batch = train.sequence, train.batch
    while (batch + 1) * sequence + 1 > tokens // 2 and (batch > 4 or sequence > 16):
        if sequence > 16 * batch or batch <= 4:
            sequence //= 2
        else:
            batch //= 2
    chosen = steps or min(most, max(MIN_STEPS, EPOCHS * tokens // (sequence * batch)))
    return dataclasses.replace(train, sequence=sequence, batch=batch), chosen


def _toml(model: ModelRecipe, train: TrainRecipe, steps: int, files: list[str], like: str) -> str:
    """The recipe as text, with what differs from the defaults."""
    lines = [f"# Made by tritape-train new, like {like}. Sources are files beside this one.", "[model]"]
    lines += _entries(model)
    lines += ["", "[train]", *_entries(train), "", "[[phases]]", f"steps = {steps}"]
    sources = ", ".join(_quoted(f"texts/{file}") for file in files)
    return "\n".join([*lines, f"sources = [{sources}]", ""])


def _entries(section: object) -> list[str]:
    found = []
    for field in dataclasses.fields(section):  # type: ignore[arg-type]
        value = getattr(section, field.name)
        if value != field.default:
            found.append(f"{field.name} = {_quoted(value) if isinstance(value, str) else str(value).lower()}")
    return found


def _quoted(text: str) -> str:
    return '"' + "".join(f"\\u{ord(c):04x}" if c in '"\\' or not c.isprintable() else c for c in text) + '"'
