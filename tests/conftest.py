"""Simulators of tests are built for short runs, unless a test is marked as `optimised` or `long`."""

import os

import pytest


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> None:
    """Before the test's fixtures: also those that build for a whole file."""
    long = item.get_closest_marker("optimised") or item.get_closest_marker("long")
    os.environ["TRITAPE_SIMULATOR"] = "optimised" if long else "quick"
