"""What the columns of a CSV file of a meter are: time, and power, voltage and current of which rail. For `CSVFile`."""

from __future__ import annotations

import csv
import re
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime

from tritape.base.errors import TritapeError

PREFIXES = {"": 1.0, "k": 1e3, "m": 1e-3, "u": 1e-6, "µ": 1e-6, "μ": 1e-6, "n": 1e-9}
"""Of units; both characters that look like a small mu."""
_WORDS = {
    "W": ("w", "watt", "watts"),
    "V": ("v", "volt", "volts"),
    "A": ("a", "amp", "amps", "ampere", "amperes"),
    "s": ("s", "sec", "secs", "second", "seconds"),
}
UNITS = {
    prefix + word: (unit, scale)
    for unit, words in _WORDS.items()
    for word in words
    for prefix, scale in PREFIXES.items()
}
"""Unit as it is written, in small letters, to the quantity and its scale."""
UNITS |= {f"{name}{word}": (unit, scale) for unit, words in _WORDS.items() for word in words
          for name, scale in (("milli", 1e-3), ("micro", 1e-6), ("nano", 1e-9), ("kilo", 1e3))}  # fmt: skip
NAMES = {
    "W": ("power", "draw", "p"),
    "V": ("voltage", "u", "vbus", "vin"),
    "A": ("current", "i"),
    "s": ("time", "timestamp", "t", "date", "datetime", "epoch", "unix", "unixtime", "utc", "elapsed", "since"),
}
"""Words that name a quantity, beside its units."""
ABSOLUTE = ("epoch", "unix", "unixtime", "utc", "date", "datetime")
"""Words of a time column that is preferred to another."""
_NOT_SAMPLES = {
    "limit",
    "max",
    "min",
    "std",
    "p2p",
    "range",
    "default",
    "enforced",
    "cap",
    "setpoint",
    "requested",
    "rms",
}
_KEYS = ("index", "gpu", "rail", "channel", "sensor", "device", "uuid", "gpu_uuid", "name", "pci.bus_id", "serial")
"""Columns that say which rail a row is of, in files with a row for each."""
SEPARATORS = (";", "\t", ",", "|")
_NUMBERED = re.compile(r"^(power|voltage|current|watts|volts|amps|[puivaw])(\d+)$")
_START = re.compile(
    r"(\d{4}[-/]\d\d?[-/]\d\d?[T ]\d\d?:\d\d(?::\d\d)?(?:[.,]\d+)?\s*(?:Z|UTC|[+-]\d\d:?\d\d)?|(?<![\d.])\d{9,19}(?:\.\d+)?)"
)


@dataclass(frozen=True)
class Column:
    """A column: its index, its name in the file, what it measures (`W`, `V`, `A` or `s`), the scale to that unit where the file
    says it, and what is left of its name, which tells rails apart."""

    index: int
    name: str
    unit: str
    scale: float | None
    rest: str


@dataclass
class Layout:
    """How a file is to be read."""

    separator: str
    lines: int
    """Lines up to the header, with it."""
    time: Column
    rails: dict[str, tuple[Column, ...]]
    """By name: a column of power, or one of current and perhaps one of voltage."""
    date: Column | None = None
    """Column of the date, where the time has one of its own."""
    key: int | None = None
    """Column that says which rail a row is of."""
    start: float | None = None
    """Unix time of the time 0, where header or comments name one."""


def split(line: str, separator: str) -> list[str]:
    """The cells of a line."""
    if '"' not in line:
        return [cell.strip() for cell in line.split(separator)]
    try:
        return [cell.strip() for cell in next(csv.reader([line], delimiter=separator, skipinitialspace=True), [])]
    except csv.Error:
        return [line]


def find_layout(lines: Iterable[str], where: str) -> Layout:
    """The layout of a file, from its first lines: comments and other lines may stand before the header. Raises TritapeError."""
    start, shown = None, ""
    for number, line in enumerate(lines, 1):
        text = line.strip().lstrip("#%").strip()
        if not text or text.lower().startswith("sep="):
            continue
        shown = shown or text
        for separator in SEPARATORS:
            cells = split(text, separator)
            columns = [made for index, name in enumerate(cells) if (made := read_column(index, name)) is not None]
            times = [column for column in columns if column.unit == "s"]
            rails = _rails([column for column in columns if column.unit != "s"])
            if not times or not rails:
                continue
            date = next((column for column in times if _words(column.name) == ["date"]), None)
            others = [column for column in times if column is not date]
            time = next((column for column in others if set(_words(column.name)) & set(ABSOLUTE)), (others or times)[0])
            lower = [name.lower() for name in cells]
            key = next((lower.index(name) for name in _KEYS if name in lower), None)
            return Layout(separator, number, time, rails, date if others else None, key, _start(time.name) or start)
        if line.lstrip().startswith(("#", "%")) or not columns:
            start = _start(text) or start
    raise TritapeError(
        f"{where}: header must name time and power, or time, voltage and current, not {shown[:200]!r}; "
        "write for example: time,watts"
    )


def read_column(index: int, name: str) -> Column | None:
    """What a column is by its name, such as `power.draw [W]`, `Current(uA)`, `vccint_mw`, `time`; None for others."""
    text = _START.sub("", name).lower()
    inside = re.search(r"[(\[]([^)\]]*)[)\]]", text)
    words = _words(text[: inside.start()] if inside else text)
    measured = UNITS.get(inside[1].strip().removeprefix("in ")) if inside else None
    if inside and measured is None and not (words and set(words) & set(NAMES["s"])):
        return None  # a unit of something else, such as C or mAh
    if measured is None and words and words[-1] in UNITS:
        measured = UNITS[words[-1]]
        words = words[:-1]
    elif len(words) > 1 and words[0] in UNITS and (words[-1].isdecimal() or words[1] == "since"):
        measured = UNITS[words[0]]  # such as `watts 2`, `seconds since`
        words = words[1:]
    if set(words) & _NOT_SAMPLES:
        return None
    unit = next((unit for unit, known in NAMES.items() if set(words) & set(known)), None)
    if measured is not None and unit not in (None, measured[0]):
        return None  # such as energy over time
    if measured is None and unit is None:
        return None
    if measured is not None and measured[0] == "s" and unit is None and words:
        return None  # such as `busy_s`
    unit = unit or (measured or ("", 0))[0]
    rest = " ".join(word for word in words if word not in NAMES[unit] and word not in _WORDS[unit])
    return Column(index, name, unit, None if measured is None else measured[1], rest)


def read_time(cell: str, scale: float | None, utc: bool) -> float:
    """Seconds: of a number, or Unix time of a date with a time, which is local where it names no zone. ValueError for others.

    A number without a unit that is too large for seconds is in milli-, micro- or nanoseconds.
    """
    try:
        value = float(cell)
    except ValueError:
        if not re.fullmatch(r"-?\d+,\d+", cell):
            return _date(cell, utc)
        value = float(cell.replace(",", "."))
    if scale is not None:
        return value * scale
    return next(
        (value * small for least, small in ((1e17, 1e-9), (1e14, 1e-6), (1e11, 1e-3)) if abs(value) >= least), value
    )


def read_start(text: str) -> float:
    """Unix time of `start=`. ValueError for what is none."""
    return read_time(text, None, False)


def _date(cell: str, utc: bool) -> float:
    text = re.sub(r"\s*(UTC|GMT)$", "Z", cell.strip()).replace("/", "-")
    text = re.sub(r"(:\d\d),(\d+)", r"\1.\2", text)
    text = re.sub(r"^(\d{4})-(\d)-", r"\1-0\2-", text)
    text = re.sub(r"^(\d{4}-\d\d)-(\d)(?=[T ])", r"\1-0\2", text)
    if german := re.fullmatch(r"(\d\d?)\.(\d\d?)\.(\d{4})([T ].*)", text):
        text = f"{german[3]}-{int(german[2]):02}-{int(german[1]):02}{german[4]}"
    if ":" not in text:
        raise ValueError
    when = datetime.fromisoformat(text)
    return (when.replace(tzinfo=UTC) if utc and when.tzinfo is None else when).timestamp()


def _words(name: str) -> list[str]:
    """The words of a column's name in small letters; a number behind the name of a quantity is one of its own."""
    words = [word for word in re.split(r"[^0-9a-zµμ]+", name.lower()) if word]
    return [part for word in words for part in _NUMBERED.sub(r"\1 \2", word).split()]


def _start(text: str) -> float | None:
    """The moment that a comment or the name of a column tells, if it does."""
    found = _START.search(text)
    try:
        return None if found is None else read_time(found[1].strip(), None, "utc" in text.lower())
    except ValueError:
        return None


def _rails(columns: list[Column]) -> dict[str, tuple[Column, ...]]:
    """Rails by name: the word that tells a column from others of its kind, else the column's name."""
    rails: dict[str, tuple[Column, ...]] = {}
    by_unit = {unit: [column for column in columns if column.unit == unit] for unit in "WVA"}
    for column in by_unit["W"]:
        rails.setdefault(column.rest, (column,))
    for current in by_unit["A"]:
        volts = [column for column in by_unit["V"] if column.rest in (current.rest, "")]
        rails.setdefault(current.rest, (current, *volts[:1]))
    if len(rails) > 1 and "" in rails:
        plain = rails[""][0]
        rails = {name or plain.name.split("[")[0].split("(")[0].strip(): made for name, made in rails.items()}
    return rails
