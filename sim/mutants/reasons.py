"""Why a mutant may survive, by its name: for the table of docs/mutants.md."""

from __future__ import annotations

REASONS: dict[str, str] = {
    "599705294a": "the same hardware: of one row of RAMs an address has no bits that choose a row",
    "a70b5c2b29": "the same hardware: of u = 0 it takes -0",
    "ca80a717ea": "the same hardware: of one bank a select without bits takes the whole word",
}
