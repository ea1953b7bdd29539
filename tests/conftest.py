"""Simulators of tests are built for short runs, unless one is marked `optimised` or `long`; what tests of training share."""

import gc
import os
from pathlib import Path

import numpy as np
import pytest


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
