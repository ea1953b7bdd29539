"""Simulators of tests are built for short runs, unless one is marked `optimised` or `long`; what many tests would work out again
is kept; what tests of training share."""

import gc
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import typer.main

from tritape.model import formats
from tritape.model.checkpoint import Checkpoint


def _remember() -> None:
    """typer makes every command anew in each call of the command line, and the text that a checkpoint writes for its own
    calibration is always the same: tests ask for both hundreds of times."""
    make, write = typer.main.get_command, formats.calibration_ids
    commands: dict[tuple[typer.Typer, int], Any] = {}
    texts: dict[tuple[object, ...], list[int]] = {}

    def get_command(app: typer.Typer) -> Any:
        key = app, len(app.registered_commands)
        if key not in commands:
            commands[key] = make(app)
        return commands[key]

    def calibration_ids(checkpoint: Checkpoint, tokens: int = formats.CALIBRATION_TOKENS, seed: int = 1) -> list[int]:
        key = checkpoint.sha256, checkpoint.config, checkpoint.own_scale, tokens, seed
        if key not in texts:
            texts[key] = write(checkpoint, tokens, seed)
        return list(texts[key])

    typer.main.get_command = get_command
    formats.calibration_ids = calibration_ids


_remember()


def pytest_collection_finish() -> None:
    """What was imported stays: the collector need not look at it again, nor after every 700 objects of a test."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(50_000, 20, 100)


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> None:
    """Before the test's fixtures: also those that build for a whole file."""
    long = item.get_closest_marker("optimised") or item.get_closest_marker("long")
    os.environ["TRITAPE_SIMULATOR"] = "optimised" if long else "quick"


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Texts of a few words, for training that takes moments."""
    folder = tmp_path_factory.mktemp("corpus")
    rng = np.random.default_rng(0)
    words = ["Emma", "was", "the", "of", "a", "very", "happy", "letter", "and", "with", "Jane", "sister."]
    text = "\n".join(" ".join(rng.choice(words, 12)) for _ in range(300)) + "\n"
    (folder / "austen.train.txt").write_text(text)
    (folder / "austen.valid.txt").write_text(text[:2000])
    return folder
