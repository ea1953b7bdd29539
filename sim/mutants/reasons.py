"""Why a mutant may survive, by its name: for the table of docs/mutants.md."""

from __future__ import annotations

REASONS: dict[str, str] = {}
