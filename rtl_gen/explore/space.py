"""The design space that a SPACE.toml describes, as points."""

from __future__ import annotations

import itertools
import tomllib
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from tritape.base.errors import TritapeError
from tritape.base.files import read_text
from tritape.hw.config import Config
from tritape.model.config import ModelConfig
from tritape.rtl_gen.parts import part
from tritape.rtl_gen.replicas import room

INTEGERS = {"engines": 1, "groups": 16, "tables_per_filler": 1, "batch": 1, "replicas": 1}
"""Axes of integers, with the value of one that is left out."""
AXES = (*INTEGERS, "clock", "part")
FIELDS = ("model", "bandwidth", "read_ahead", "latency", "space")
MOST = 100_000
"""Points of a space."""

Point = dict[str, Any]
"""JSON-ready: model, shape (entries of its config.json), bandwidth, read_ahead, latency (None: as of `tritape choose`), and a
value of every axis."""


@dataclass(frozen=True)
class Space:
    """`points` that can be built, in order; `skipped`: how many combinations cannot (G no multiple of E, F above G / E, replicas
    that the part's regions cannot be shared out to)."""

    name: str
    points: list[Point]
    skipped: int


def read_space(path: Path, model_shape: Callable[[str], ModelConfig]) -> Space:
    """The space of a TOML file: `model` (what `model_shape` knows), `bandwidth` (bytes a second), optional `read_ahead` (bytes)
    and `latency` (cycles), and a table `space` with a value or a list for each axis; integers may be `{from, to, step}`.

    Raises `TritapeError` naming the entry that is wrong.
    """
    try:
        text = tomllib.loads(read_text(path, "space"))
    except tomllib.TOMLDecodeError as error:
        raise TritapeError(f"{path}: file must be TOML, not damaged text ({error}); see docs/explore.md") from None
    _known(path, text, FIELDS, "entry")
    for name in ("model", "bandwidth", "space"):
        if name not in text:
            raise TritapeError(f"{path}: {name} must be given, not missing; see docs/explore.md")
    if not isinstance(text["space"], dict):
        raise TritapeError(f"{path}: space must be a table, not {text['space']!r}; write [space]")
    numbers: dict[str, Any] = {name: text.get(name) for name in ("bandwidth", "read_ahead", "latency")}
    for name, value in numbers.items():
        if value is None and name != "bandwidth":
            continue
        least = "above 0" if name == "bandwidth" else "0 or more"
        if type(value) not in (int, float) or value < 0 or (value == 0 and name == "bandwidth"):
            raise TritapeError(f"{path}: {name} must be {least}, not {value!r}; give bytes a second, bytes or cycles")
    axes = text["space"]
    _known(path, axes, AXES, "axis of space")
    values = {name: _axis(path, name, axes.get(name, INTEGERS.get(name))) for name in AXES}
    if not isinstance(text["model"], str):
        raise TritapeError(f"{path}: model must be a name, not {text['model']!r}; give a shape or a checkpoint folder")
    shape = model_shape(text["model"])
    common = {
        "model": text["model"],
        "shape": asdict(shape),
        **{name: value if value is None else float(value) for name, value in numbers.items()},
    }
    total = 1
    for choices in values.values():
        total *= len(choices)
    if total > MOST:
        raise TritapeError(f"{path}: space must have at most {MOST} points, not {total}; take fewer values")
    points = []
    for combination in itertools.product(*values.values()):
        point = {**common, **dict(zip(values, combination, strict=True))}
        try:
            configuration(point)
            room(part(point["part"]), point["replicas"])
        except TritapeError:
            continue
        points.append(point)
    if not points:
        raise TritapeError(
            f"{path}: space must have a point that can be built, not none; G is a multiple of E, and at least 4"
        )
    return Space(path.stem, points, total - len(points))


def configuration(point: Point) -> Config:
    """The hardware of a point, of one replica."""
    shape = shape_of(point)
    return Config.for_model(
        shape, point["groups"], point["tables_per_filler"], point["engines"], batch=point["batch"]
    ).limited_to(shape)


def shape_of(point: Point) -> ModelConfig:
    """The model of a point."""
    return ModelConfig(**point["shape"])


def _known(path: Path, table: dict[str, Any], names: tuple[str, ...], what: str) -> None:
    for name in table:
        if name not in names:
            raise TritapeError(f"{path}: {what} must be one of {', '.join(names)}, not {name!r}; correct it")


def _axis(path: Path, name: str, value: Any) -> list[Any]:
    """The values of an axis, each once."""
    if value is None:
        raise TritapeError(f"{path}: space.{name} must be given, not missing; see docs/explore.md")
    if isinstance(value, dict):
        if value.keys() - {"step"} != {"from", "to"} or not all(type(v) is int and v > 0 for v in value.values()):
            raise TritapeError(
                f"{path}: space.{name} must be {{from, to, step}} of positive integers, not {value!r}; correct it"
            )
        value = list(range(value["from"], value["to"] + 1, value.get("step", 1)))
    values = list(dict.fromkeys(value if isinstance(value, list) else [value]))
    if not values:
        raise TritapeError(f"{path}: space.{name} must have a value, not none; give one")
    for entry in values:
        if name == "part":
            part(entry)
        elif name == "clock":
            if type(entry) not in (int, float) or not entry > 0:
                raise TritapeError(f"{path}: space.clock must be Hz above 0, not {entry!r}; correct it")
        elif type(entry) is not int or entry < 1:
            raise TritapeError(f"{path}: space.{name} must be integers of at least 1, not {entry!r}; correct it")
    return [float(entry) for entry in values] if name == "clock" else values
