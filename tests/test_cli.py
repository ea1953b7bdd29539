"""The application itself: which module has which command, and that one is enough."""

from __future__ import annotations

import json
import subprocess
import sys

from tritape import cli

EACH = """
import importlib, json
from tritape import cli
found = {}
for group in cli.COMMANDS:
    before = len(cli.app.registered_commands)
    importlib.import_module(f"tritape.cli.{group}")
    names = [c.name or c.callback.__name__.replace("_", "-") for c in cli.app.registered_commands[before:]]
    found[group] = names
print(json.dumps(found))
"""
ONE = "import sys; from tritape import cli; cli.register({!r}); print(*(m for m in sys.modules if m.startswith('tritape.cli.')))"


def said(program: str) -> str:
    return subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout


def test_every_module_registers_what_the_table_says() -> None:
    assert {group: tuple(names) for group, names in json.loads(said(EACH)).items()} == cli.COMMANDS


def test_a_command_brings_its_own_module_only() -> None:
    modules = said(ONE.format("doctor")).split()
    assert "tritape.cli.doctor" in modules
    assert "tritape.cli.generate" not in modules


def test_a_command_that_is_not_known_brings_all() -> None:
    """So that the message can name those that there are."""
    assert {f"tritape.cli.{group}" for group in cli.COMMANDS} <= set(said(ONE.format("nonsense")).split())
