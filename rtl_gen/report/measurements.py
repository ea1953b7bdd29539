"""The measurement files of a folder, sorted by what they hold. A file is known by its keys, not by its name."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tritape.base.errors import TritapeError

KINDS = ("measured", "simulated", "routed", "synthesised", "projected", "published")
"""How a number came about: on a machine or board; by RTL in simulation; by place and route; by synthesis alone; by the cycle
model or a clock that was not routed; by the authors of another system."""

Result = dict[str, Any]


@dataclass(frozen=True)
class Measurements:
    """What each file holds, by file name without suffix, in name order.

    bars: rows of benchmarks/bars.py; estimates: `tritape estimate`; runs: `tritape perf`; timelines: `tritape timeline`;
    areas: `tritape area`; packs: `tritape pack`; spaces: `tritape explore`;
    systems: published figures of others (benchmarks/anchors.json); campaigns: `make faults`, `make mutants`,
    `make coverage`.
    unused: other JSON files.
    """

    bars: dict[str, list[Result]] = field(default_factory=dict)
    estimates: dict[str, Result] = field(default_factory=dict)
    runs: dict[str, Result] = field(default_factory=dict)
    timelines: dict[str, Result] = field(default_factory=dict)
    areas: dict[str, Result] = field(default_factory=dict)
    packs: dict[str, Result] = field(default_factory=dict)
    spaces: dict[str, Result] = field(default_factory=dict)
    systems: dict[str, list[Result]] = field(default_factory=dict)
    campaigns: dict[str, Any] = field(default_factory=dict)
    unused: list[str] = field(default_factory=list)


def read_measurements(folder: Path) -> Measurements:
    """All JSON files of a folder. Raises TritapeError for a missing folder or a damaged file."""
    if not folder.is_dir():
        raise TritapeError(
            f"{folder}: measurements must be a folder, not {'a file' if folder.exists() else 'missing'}; "
            "give the folder that the --json files were written to"
        )
    found = Measurements()
    for path in sorted(folder.glob("*.json")):
        try:
            value = json.loads(path.read_bytes())
        except (ValueError, RecursionError):
            raise TritapeError(f"{path}: file must be JSON, not damaged text; measure again") from None
        target = _target(found, value)
        name = path.relative_to(folder).with_suffix("").as_posix()
        if target is None:
            found.unused.append(name)
        else:
            target[name] = value
    return found


def _target(found: Measurements, value: Any) -> dict[str, Any] | None:
    """Where a file's content belongs, None when it is of no known command."""

    def rows(*keys: str) -> bool:
        return (
            isinstance(value, list) and bool(value) and all(isinstance(r, dict) and r.keys() >= {*keys} for r in value)
        )

    def entries(*keys: str) -> bool:
        return isinstance(value, dict) and value.keys() >= {*keys}

    if rows("bar", "must_be", "value", "met", "kind", "command"):
        return found.bars
    if rows("system", "device", "model", "tokens_per_second"):
        return found.systems
    if entries("timeline", "word_cycles", "groups"):
        return found.timelines
    if entries("measured_cycles", "ideal_cycles", "roofline_fraction"):
        return found.runs
    if entries("cycles", "cycles_per_token", "ideal_cycles", "ternary_weights", "clock_hz", "padding"):
        return found.estimates
    if entries("luts", "ffs", "brams", "dsps", "fmax_mhz"):
        return found.areas
    if entries("space", "points", "front"):
        return found.spaces
    if entries("image_bytes", "ternary_weights", "seconds", "peak_memory_bytes"):
        return found.packs
    if isinstance(value, dict) and value and all(isinstance(c, dict) and "violations" in c for c in value.values()):
        return found.campaigns
    if entries("tried", "killed", "survivors", "mutants") or entries("units", "holes"):
        return found.campaigns
    return None


def bandwidth(result: Result) -> float | None:
    """Bytes a second of weights that the memory delivers at most, from an estimate's or a run's own numbers; None when
    it does not say (no clock)."""
    if "memory_bytes_per_cycle" in result and "clock_hz" in result:
        return float(result["memory_bytes_per_cycle"] * result["clock_hz"])
    if "ternary_weights" in result and "clock_hz" in result:
        return float(result["ternary_weights"] / 5 / result["ideal_cycles"] * result["clock_hz"])
    return None


def area_kind(result: Result) -> str:
    """`routed` with a clock, else `synthesised`."""
    return "synthesised" if result["fmax_mhz"] is None else "routed"


def rate_points(found: Measurements) -> Iterator[tuple[str, float, float, str]]:
    """(label, bytes a second, tokens a second, kind) of everything that has both."""
    for rows in found.systems.values():
        for row in rows:
            if row.get("bandwidth"):
                yield (
                    f"{row['system']}, {row['model']}",
                    row["bandwidth"],
                    row["tokens_per_second"],
                    row.get("kind", "published"),
                )
    for results in (found.estimates, found.runs):
        for name, result in results.items():
            rate = bandwidth(result)
            if rate is not None and result.get("tokens_per_second"):
                yield name, rate, result["tokens_per_second"], "projected"
