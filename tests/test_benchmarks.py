"""Recorded projections are what the cycle model says today, and the pages that state them agree with them."""

from __future__ import annotations

import importlib
import json
import re
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tritape.cli.estimate import model_shape
from tritape.hw.config import Config
from tritape.model.data import embedded_models
from tritape.rtl_gen.estimate import estimate_tokens

ROOT = Path(__file__).parent.parent
BENCHMARKS = ROOT / "benchmarks"
CHOSEN = sorted((BENCHMARKS / "choose").glob("*.json"))
RELATIVE = 1e-9
"""The same arithmetic, in another order at most."""

sys.path.insert(0, str(BENCHMARKS))  # scripts, not a package

cards = importlib.import_module("cards")


def read(path: Path) -> Any:
    return json.loads(path.read_text())


def estimate(model: str, point: dict[str, Any], *memory: float | None) -> dict[str, Any]:
    """`estimate_tokens` of the options of a `tritape estimate`, and its memory: bytes a second, read ahead, latency."""
    shape = model_shape(model)
    config = Config.for_model(
        shape, int(point["groups"]), int(point["tables_per_filler"]), int(point["engines"]), batch=int(point["batch"]),
        code=point.get("code", "ternary5"),
    ).limited_to(shape)  # fmt: skip
    return estimate_tokens(shape, config, float(point.get("clock", 80e6)), *memory)


def projected(model: str, point: dict[str, Any]) -> dict[str, Any]:
    """The same, its memory among the options."""
    return estimate(model, point, *(float(point[name]) for name in ("bandwidth", "read_ahead", "latency")))


@pytest.mark.parametrize("name", ["370m-16GBs", "1.3b-16GBs", "2.7b-16GBs", "estimate-hbm-2.7b"])
def test_recorded_estimates(name: str) -> None:
    recorded = read(BENCHMARKS / f"{name}.json")
    also = {
        "read_ahead": recorded["read_ahead_bytes"],
        "latency": recorded["latency_cycles"],
        "clock": recorded["clock_hz"],
    }
    found = projected(recorded["model"], recorded | also)
    assert found["cycles"] == recorded["cycles"], "write it again with the command that tritape report names"
    assert found["tokens_per_second"] == pytest.approx(recorded["tokens_per_second"], rel=RELATIVE)


@pytest.mark.parametrize("path", CHOSEN, ids=lambda path: path.stem)
def test_recorded_choices(path: Path) -> None:
    """The rate of each chosen design, by the command that its file names; which one is chosen is not asked again."""
    recorded = read(path)
    _, _, model, *options = shlex.split(recorded["command"])
    names = [option.removeprefix("--").replace("-", "_") for option in options[::2]]
    found = projected(model, dict(zip(names, options[1::2], strict=True)))
    rate = found["tokens_per_second"] * recorded["chosen"].get("replicas", 1)
    assert rate == pytest.approx(recorded["chosen"]["tokens_per_second"], rel=RELATIVE), "run benchmarks/cards.py again"


@pytest.mark.parametrize("name", embedded_models())
def test_cards_of_models(name: str) -> None:
    """Bytes, and cycles where they are projected, by the command that the card names."""
    card = (embedded_models()[name] / "README.md").read_text()
    named = re.search(
        r"([\d,]+) bytes read a token, ([\d,]+) with the embedding.*?(?:; ([\d,]+) cycles a token )?\(`tritape estimate (.*?)`\)",
        card,
    )
    if named is None:
        assert "cycles a token" not in card
        return
    model, *options = shlex.split(named[4])
    point = {"tables_per_filler": 1, "engines": 1, "batch": 1} | dict(zip([o[2:] for o in options[::2]], options[1::2]))
    found = estimate(model, point, None)
    assert int(named[1].replace(",", "")) == found["tape_bytes"]
    assert int(named[2].replace(",", "")) == found["image_bytes"]
    if named[3]:
        assert int(named[3].replace(",", "")) == found["cycles_per_token"]


def test_the_table_of_default_models() -> None:
    """Tape, image, cycles and rate of each row of docs/studies/default-models.md."""
    page = (ROOT / "docs/studies/default-models.md").read_text()
    rows = re.findall(
        r"^\| (?:starter )?`(.*?)` \| .*? \| (\d+) \| ([\d,]+) \| ([\d,]+) \| ([\d,]+) \| ([\d,]+) at (\d+) MHz \|",
        page,
        re.M,
    )
    assert len(rows) == 5
    for name, groups, *stated, megahertz in rows:
        point = {"groups": groups, "tables_per_filler": 1, "engines": 1, "batch": 1, "clock": float(megahertz) * 1e6}
        found = estimate(name, point, None)
        expected = [found[key] for key in ("tape_bytes", "image_bytes", "cycles_per_token", "tokens_per_second")]
        assert stated == [f"{value:,.0f}" for value in expected], name


def test_the_table_of_cards_is_on_its_page() -> None:
    """Each row that `python benchmarks/cards.py` prints stands in docs/large-models.md, in that order, and nothing else does."""
    page = (ROOT / "docs/large-models.md").read_text()
    table = re.findall(r"^\| (?:[\w.]*) ?\| ([\d.]+ \| \d x .*?) \|$", page, re.M)
    rows = [cards.cells(read(BENCHMARKS / "choose" / f"{name}.json")) for name in cards.rows()]
    assert table == [" | ".join([*row[:-1], row[-1].split(":")[0]]) for row in rows]
    assert {path.stem for path in CHOSEN if path.stem.startswith("u250-")} == set(cards.rows())


@pytest.mark.parametrize(
    ("arguments", "message"),
    [(["--nonsense"], "unrecognized arguments: --nonsense"), (["u250-9b"], "row must be one of u250-370m-peak-4, ")],
)
def test_arguments_that_cards_does_not_know(arguments: list[str], message: str) -> None:
    command = [sys.executable, "benchmarks/cards.py", *arguments]
    made = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert made.returncode == 2
    assert message in made.stderr
