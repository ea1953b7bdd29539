"""What the files of Verilator's coverage say of every file of `hw/`. `make coverage`.

    python -m tritape.sim.coverage.report build/coverage [--out FILE] [--holes PREFIX]

A point is a line of the Verilog, or one direction in which a bit of a named signal may turn. Points of the same unit in other
benches, places and sizes are one point: what one of them covers is covered. Amaranth numbers the namesakes of a module, with
other numbers in every design; here the line of Python that makes a signal tells them apart, and of equal ones their order.
Signals without a name, which Amaranth makes for expressions, also where they enter a module (`port$12$0`), are left out, and so
are modules of others, those of Amaranth's library among them.
"""

from __future__ import annotations

import argparse
import functools
import json
import re
import sys
from collections import defaultdict
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from tritape.base.files import replacing

KINDS = ("line", "toggle")
BARS = {"line": 0.98, "toggle": 0.90}
_SOURCE = re.compile(r'\(\* src = "[^"]*?/hw/([\w/]+\.py):(\d+)" \*\)')
_MODULE = re.compile(r"^module (?:\\(\S+)|(\w+))")
_NAME = re.compile(r"\\?\$\d+ ?")
_BIT = re.compile(r"(.*?)(?:\[(\d+)\])?$")  # of a small memory, the row stays in the name
_ENCODED = re.compile(r"__0([0-9A-Fa-f]{2})")  # as Verilator writes what C++ has no letters for
_PLACE = re.compile(r"/([0-9a-f]{32})\.[^/]+/model\.v$")

_NAMELESS = ("__024", "port__024", "_05Fauto", "initial_trigger")
_DECLARED = re.compile(r"\s*(?:input|output|inout|wire|reg)(?: signed)?(?: \[[^]]*\])? (?:\\(\S+)|(\w+))")
_NUMBERED = re.compile(r"([^.[]*?)(?:\$(\d+))?([.[].*)?")  # a name, Amaranth's number for it, a field or element
_TURN = re.compile(r"((?:\[\d+\])*:[01]->[01])$")
_IDLE = "what Yosys adds for simulators"

_REASONS = {
    "counters of cycles and clamps, from bit 24 on: 2^24 of them are many minutes of any simulation": (
        r"", r"\w+ \(counters\.py:\d+\)", range(24, 32)),
    "size, kind and caching of bursts on AXI and the length of those that write, constants of the configuration": (
        r"memory/axi", r"(axi__(\d+__)?)?(a[rw](size|burst|cache)|awlen)(\$\d+)? .*", range(8)),
    "the low 12 bits of a port's base, which is a multiple of 4096": (
        r"memory/axi|link/axi_lite\.py$", r"base(__\d+)?(\$\d+)? .*", range(12)),
    "the length of the host link's requests, which is 1": (
        r"link/host_link\.py$|accelerator\.py$", r"requests__payload\.length \(link/host_link\.py:\d+\)", range(32)),
    "bits of AXI4-Lite's STATE that say nothing, constant": (r"link/axi_lite\.py$", r"state\.unused .*", range(14)),
    "the port for writing, and the restart, of a flash beside which no host is: nothing is connected": (
        r"memory/flash_start\.py$", r"(write__\w+|write_failed|restart)(\$\d+)?(\.\w+)? .*", range(256)),
}  # fmt: skip
"""Toggles that no test can reach, and why: file, signal, bits. docs/mutants.md lists them; they count as missed."""

Point = tuple[str, ...]
Hits = dict[Point, int]


class Verilog:
    """A Verilog text with the Python line that each of its lines comes from."""

    def __init__(self, text: str) -> None:
        self.lines = text.splitlines()
        self.unit: list[str | None] = []
        """Of each line: the file of `hw/` whose component its module is, or None."""
        self.source: list[str] = []
        unit, source, last = None, "", ""
        for line in self.lines:
            if line.startswith("(* src ="):
                last = line
            if _MODULE.match(line):
                found = _SOURCE.search(last)
                unit, source, last = (found[1] if found else None), "", ""
            if found := _SOURCE.search(line):
                source = f"{found[1]}:{found[2]}"
            self.unit.append(unit)
            self.source.append(source)
        words = [_NAME.sub("$", line).strip() for line in self.lines]
        self._signals = self._number()
        self._places: list[Point] = []
        seen: dict[tuple[str | None, str, str], int] = defaultdict(int)
        for unit, source, word in zip(self.unit, self.source, words):
            seen[unit, source, word] += 1
            self._places.append((source, _IDLE if "$auto$" in word else word, str(seen[unit, source, word])))

    def _number(self) -> dict[int, str]:
        """By the lines that declare it, each signal's name in every design."""
        module, source = 0, ""
        lines: dict[tuple[int, str, str], dict[int, list[tuple[int, str]]]] = defaultdict(lambda: defaultdict(list))
        for at, line in enumerate(self.lines):
            if line.lstrip().startswith("(* src ="):
                source = f"{found[1]}:{found[2]}" if (found := _SOURCE.search(line)) else ""
            elif _MODULE.match(line):
                module += 1
            elif declared := _DECLARED.match(line):
                parts = _NUMBERED.fullmatch(declared[1] or declared[2])
                assert parts is not None
                lines[module, source, parts[1]][int(parts[2] or 0)].append((at, parts[3] or ""))
        names: dict[int, str] = {}
        for (_, source, name), numbers in lines.items():
            for order, number in enumerate(sorted(numbers), start=1):
                text = f"{name}${order}" if order > 1 else name
                names |= {at: f"{text}{field} ({source})" for at, field in numbers[number]}
        return names

    def signal(self, at: int) -> str:
        """Name of the signal that a line declares, which other designs with the unit have too."""
        return self._signals[at]

    def place(self, at: int) -> Point:
        """(line of Python, text, which of the equal ones) of a line: the same in every size of the unit."""
        return self._places[at]


@functools.lru_cache(maxsize=8)
def _verilog(path: str) -> Verilog | None:
    file = Path(_PLACE.sub(r"/\1/model.v", path))
    return Verilog(file.read_text()) if file.is_file() else None


def read(path: Path, hits: dict[str, Hits]) -> None:
    """Add the points of one file of coverage to `hits`, by file of `hw/`."""
    lines: dict[tuple[str, int], int] = {}
    for line in path.read_text(errors="replace").splitlines():
        if not line.startswith("C '"):
            continue
        fields, _, count = line[3:].rpartition("' ")
        found = dict(part.split("\2", 1) for part in fields.split("\1") if "\2" in part)
        text, at = _verilog(found["f"]), int(found["l"]) - 1
        if text is None or (unit := text.unit[at]) is None:
            continue
        if found["t"] == "toggle":
            if not found["o"].startswith(_NAMELESS):
                turn = _TURN.search(found["o"])
                assert turn is not None
                _add(hits[unit], ("toggle", text.signal(at) + turn[1]), int(count))
            continue
        for covered in _numbers(found.get("S", "")):
            lines[found["f"], covered] = lines.get((found["f"], covered), 0) + int(count)
    for (file, number), times in lines.items():
        text = _verilog(file)
        if text and (unit := text.unit[number - 1]):
            _add(hits[unit], ("line", *text.place(number - 1)), times)


def _add(hits: Hits, point: Point, count: int) -> None:
    if _IDLE not in point:
        hits[point] = hits.get(point, 0) + count


def _numbers(ranges: str) -> list[int]:
    """Of `3,5-7`."""
    found: list[int] = []
    for part in filter(None, ranges.split(",")):
        first, _, last = part.partition("-")
        found += range(int(first), int(last or first) + 1)
    return found


def table(hits: dict[str, Hits]) -> dict[str, dict[str, tuple[int, int]]]:
    """(covered, points) of each kind, by file and of all."""
    rows: dict[str, dict[str, tuple[int, int]]] = {}
    for unit in sorted(hits):
        rows[unit] = {}
        for kind in KINDS:
            counts = [count for point, count in hits[unit].items() if point[0] == kind]
            rows[unit][kind] = (sum(map(bool, counts)), len(counts))
    rows["all"] = {
        kind: (sum(r[kind][0] for r in rows.values()), sum(r[kind][1] for r in rows.values())) for kind in KINDS
    }
    return rows


def explained(hits: dict[str, Hits]) -> dict[str, int]:
    """Of each of `_REASONS`, how many toggles were missed for it."""
    found = dict.fromkeys(_REASONS, 0)
    for unit, points in hits.items():
        for kind, name, *_ in (point for point, count in points.items() if not count):
            signal = _BIT.match(name.rpartition(":")[0])
            assert signal is not None
            for reason, (file, pattern, bits) in _REASONS.items() if kind == "toggle" else ():
                if re.match(file, unit) and re.fullmatch(pattern, signal[1]) and int(signal[2] or 0) in bits:
                    found[reason] += 1
    return found


def _holes(hits: Hits) -> list[str]:
    """What was not reached: lines, and signals with the bits that did not turn in both directions."""
    bits: dict[str, set[int]] = defaultdict(set)
    found = []
    for point, count in hits.items():
        if count:
            continue
        if point[0] == "toggle":
            found_bit = _BIT.match(point[1].rpartition(":")[0])
            assert found_bit is not None
            name = _ENCODED.sub(lambda code: chr(int(code[1], 16)), found_bit[1])
            bits[name].add(int(found_bit[2] or 0))
        else:
            found.append(" | ".join(point[1:]))
    return sorted(found) + [f"{name}: bits {_ranges(sorted(bits[name]))}" for name in sorted(bits)]


def _ranges(numbers: list[int]) -> str:
    """`3, 5-7`."""
    parts: list[list[int]] = []
    for number in numbers:
        if parts and parts[-1][-1] == number - 1:
            parts[-1].append(number)
        else:
            parts.append([number])
    return ", ".join(str(part[0]) if len(part) == 1 else f"{part[0]}-{part[-1]}" for part in parts)


def share(covered: int, points: int) -> str:
    """In percent."""
    return f"{100 * covered / points:.1f}" if points else "-"


def main() -> int:
    """The command line. Status 1 below a bar."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--out", type=Path, help="JSON of the table and of every hole")
    parser.add_argument("--holes", help="print the holes of files of hw/ that begin so")
    parser.add_argument("--markdown", action="store_true", help="print the table as docs/mutants.md has it")
    chosen = parser.parse_args()
    hits: dict[str, Hits] = defaultdict(dict)
    files = sorted(chosen.folder.glob("*.dat"))
    if not files:
        parser.error(f"{chosen.folder}: folder must hold what `make coverage` counted (*.dat), not nothing; run it")
    for path in files:
        read(path, hits)
    rows = table(hits)
    holes = {unit: _holes(hits[unit]) for unit in sorted(hits)}
    reasons = explained(hits)
    if chosen.out:
        shown: dict[str, Any] = {
            unit: {kind: {"covered": row[kind][0], "points": row[kind][1]} for kind in KINDS}
            for unit, row in rows.items()
        }
        with replacing(chosen.out) as stream:
            stream.write((json.dumps({"units": shown, "explained": reasons, "holes": holes}, indent=1) + "\n").encode())
    for unit in holes if chosen.holes is not None else ():
        if unit.startswith(chosen.holes):
            print(unit, *holes[unit], sep="\n  ")
    cells = [[unit, *(f"{share(*row[kind])} % of {row[kind][1]}" for kind in KINDS)] for unit, row in rows.items()]
    if chosen.markdown:
        print("| file | line | toggle |\n|---|---|---|")
        print("\n".join(f"| {' | '.join(cell)} |" for cell in cells))
    else:
        shown_table = Table("file", *KINDS)
        for cell in cells:
            shown_table.add_row(*cell)
        Console(width=100).print(shown_table)
    covered, points = rows["all"]["toggle"]
    print(
        f"without {sum(reasons.values())} toggles that no test can reach: {share(covered, points - sum(reasons.values()))} %"
    )
    missed = [kind for kind, bar in BARS.items() if rows["all"][kind][0] < bar * rows["all"][kind][1]]
    return int(bool(missed))


if __name__ == "__main__":
    sys.exit(main())
