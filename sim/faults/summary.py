"""Tables of a fault campaign's outcomes."""

from __future__ import annotations

import statistics
from collections import Counter
from collections.abc import Sequence
from typing import Any

from rich.table import Table

OUTCOMES = ("masked", "repeated", "detected", "killed", "late", "silent")
_INSIDE = "inside"
_KEPT = 50  # violations listed by number


def _row(outcomes: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """One class of faults."""
    later = [outcome["later"] for outcome in outcomes if outcome["later"] is not None]
    by = Counter(outcome["by"] for outcome in outcomes if outcome["by"])
    return {
        "faults": len(outcomes),
        "struck": sum(outcome["struck"] for outcome in outcomes),
        **{name: sum(outcome["outcome"] == name for outcome in outcomes) for name in OUTCOMES},
        "changed_a_logit": sum(outcome["changed"] for outcome in outcomes),
        "by": dict(by.most_common()),
        "cycles_later_median": int(statistics.median(later)) if later else None,
        "cycles_later_most": max(later) if later else None,
        "not_recovered": sum(not outcome["recovered"] for outcome in outcomes),
        "lost": sum(not outcome["reachable"] for outcome in outcomes),
        "recovery_cycles_most": max(outcome["took"] for outcome in outcomes),
    }


def summary(outcomes: Sequence[dict[str, Any]], **about: Any) -> dict[str, Any]:
    """All tables of outcomes, the bars of issue 12, and the numbers of the faults that broke one."""
    kinds = list(
        dict.fromkeys(sorted((outcome["kind"] for outcome in outcomes), key=lambda kind: kind.startswith(_INSIDE)))
    )
    rows = {kind: _row([outcome for outcome in outcomes if outcome["kind"] == kind]) for kind in sorted(kinds)}
    outside = [outcome for outcome in outcomes if not outcome["kind"].startswith(_INSIDE)]
    tape = [outcome for outcome in outside if outcome["in_time"] is not None]
    violations = {
        "silent": [outcome["number"] for outcome in outside if outcome["outcome"] in ("silent", "late")],
        "device_lost": [outcome["number"] for outcome in outside if not outcome["recovered"]],
        "tape_not_in_time": [outcome["number"] for outcome in tape if not outcome["in_time"]],
    }
    bars = {
        "faults_outside": len(outside),
        "silent_outside": len(violations["silent"]),
        "device_lost": len(violations["device_lost"]),
        "tape_flips": len(tape),
        "tape_flips_in_time_percent": round(100 * sum(outcome["in_time"] for outcome in tape) / max(len(tape), 1), 3),
    }
    return {
        **about,
        "bars": bars,
        "outside": {kind: row for kind, row in rows.items() if not kind.startswith(_INSIDE)},
        "inside": {kind: row for kind, row in rows.items() if kind.startswith(_INSIDE)},
        "violations": {name: numbers[:_KEPT] for name, numbers in violations.items()},
    }


COLUMNS = ("class", "faults", *OUTCOMES, "told by", "cycles later: median, most", "not recovered")


def cells(kind: str, row: dict[str, Any]) -> list[str]:
    """A row of a table, by `COLUMNS`."""
    by = ", ".join(f"{name} {count}" for name, count in list(row["by"].items())[:4])
    later = (
        "" if row["cycles_later_median"] is None else f"{row['cycles_later_median']:,}, {row['cycles_later_most']:,}"
    )
    return [kind, *(str(row[name]) for name in ("faults", *OUTCOMES)), by, later, str(row["not_recovered"])]


def markdown(result: dict[str, Any]) -> str:
    """The two tables as docs/faults.md has them."""
    lines = []
    for part in ("outside", "inside"):
        lines += ["| " + " | ".join(COLUMNS) + " |", "|---" * len(COLUMNS) + "|"]
        lines += ["| " + " | ".join(cells(kind, row)) + " |" for kind, row in result[part].items()]
        lines.append("")
    return "\n".join(lines)


def tables(result: dict[str, Any]) -> list[Table]:
    """The same for people at a terminal."""
    made = []
    for part, title in (("outside", "Tape, bus, link, resets, hosts"), ("inside", "Memories inside the device")):
        table = Table(title=f"{title} ({result['design']}, seed {result['seed']})")
        for name in COLUMNS:
            table.add_column(name, justify="left" if name in ("class", "told by") else "right")
        for kind, row in result[part].items():
            table.add_row(*cells(kind, row))
        made.append(table)
    return made
