"""A trace that a bench meter wrote: a CSV file as nvidia-smi, Joulescope, PPK2 and others write it, read after the run."""

from __future__ import annotations

import math
import re
import time
from collections.abc import Iterator, Mapping
from pathlib import Path

from tritape.base.errors import TritapeError
from tritape.base.files import MARKS
from tritape.host.power.csv_columns import UNITS, Column, Layout, find_layout, read_start, read_time, split
from tritape.host.power.trace import Trace

FORM = "csv:FILE[,rails=A+B][,volts=V][,start=TIME]"
HEAD_BYTES = 1 << 16
"""Of a file, in which its header must be."""
UNIX_S = 1e8
"""Times below are counted from the meter's start."""
POLL_S = 0.1


class CSVFile:
    """A meter's file with a header line: a column of time, and of each rail one of power or two of voltage and current.

    `rails`: names of rails to add up, or `all`; without it there must be one. `volts`: the supply, for meters that write a
    current only. `start`: Unix time of the file's time 0, for meters that count from their own start. Meter and host must agree
    on the time to a fraction of the run (NTP). What is understood: docs/measure.md.

    `check` judges a file before the run, `read` after it; both raise TritapeError naming the file, the line and the cure.
    """

    scope = "what the meter was connected to"

    def __init__(
        self, path: Path, rails: tuple[str, ...] = (), volts: float | None = None, start: float | None = None
    ) -> None:
        self.path, self.rails, self.volts, self.start = Path(path), rails, volts, start
        self.name = f"csv:{path}"

    @classmethod
    def from_text(cls, text: str) -> CSVFile:
        """From `FILE[,rails=A+B][,volts=V][,start=TIME]`; a name with a comma is fine."""
        path, *settings = re.split(r",(?=(?:rails|volts|start)=)", text)
        values = dict(setting.split("=", 1) for setting in settings)
        if not path:
            raise TritapeError(f"csv must name a file, not {text!r}; write {FORM}")
        rails = tuple(name.strip() for name in values["rails"].split("+")) if "rails" in values else ()
        try:
            volts = float(values["volts"].upper().removesuffix("V")) if "volts" in values else None
            start = read_start(values["start"]) if "start" in values else None
        except ValueError:
            raise TritapeError(
                f"volts must be a number, and start Unix time or a date such as 2026-01-31T12:00:00, not {text!r}; write {FORM}"
            ) from None
        if volts is not None and not 0 < volts < math.inf:
            raise TritapeError(f"volts must be more than 0, not {volts}; give the supply's voltage")
        return cls(Path(path), rails, volts, start)

    def check(self, may_come: bool = False) -> None:
        """Raise TritapeError for what `read` could not use after a run: no such file (unless it `may_come` later), a header that
        says no power, a rail that there is not, lines that are no samples, times without a date. An empty file, which a meter
        has just made, is fine."""
        if not self.path.exists():
            if may_come and self.path.parent.is_dir():
                return
            raise TritapeError(
                f"{self.path}: trace must be there before the run, not missing; start the meter first, or for a file that is "
                "exported afterwards give --power-wait with the seconds that this takes"
            )
        text = self._text(HEAD_BYTES)
        if not text.strip():
            return
        layout = self._layout(text)
        traces = self._traces(text, layout)
        if layout.key is not None and max(map(len, traces.values()), default=0) > 1:  # every rail has had its turn
            self._select(traces)
        for trace in filter(len, traces.values()):
            self._check_time(trace.times[0])

    def wait(self, end: float, seconds: float) -> None:
        """Until the file has a sample behind Unix time `end`, or `seconds` are over."""
        deadline = time.monotonic() + seconds
        while not self._covers(end) and time.monotonic() < deadline:
            time.sleep(POLL_S)

    def read(self) -> Trace:
        """The trace: of all rails that are asked for."""
        text = self._text()
        layout = self._layout(text)
        traces = self._traces(text, layout)
        if layout.key is not None:
            traces = {name: traces[name] for name in self._select(traces)}
        shortest = min((len(trace) for trace in traces.values()), default=0)
        if shortest < 2:
            raise TritapeError(f"{self.path}: trace must have at least 2 samples, not {shortest}; record longer")
        return Trace.total(list(traces.values()))

    def _traces(self, text: str, layout: Layout) -> dict[str, Trace]:
        """The samples in a text by rail: of those that are asked for, or of all where each has rows of its own."""
        chosen = self._chosen(layout) if layout.key is None else {}
        traces: dict[str, Trace] = {}
        last = text.count("\n") + 1 if not text.endswith("\n") else 0
        for line, row in self._rows(text, layout):
            try:
                when = self._time(row, layout)
                for rail, columns in (chosen or self._row_rail(row, layout)).items():
                    traces.setdefault(rail, Trace()).add_power(when, self._watts(row, columns))
            except _NotThereError:
                continue
            except (ValueError, IndexError):
                if line == last:
                    break  # the meter is writing it
                raise TritapeError(
                    f"{self.path}: line {line} must have numbers with rising time, not "
                    f"{layout.separator.join(row)!r}; remove or repair it"
                ) from None
        return traces

    def _text(self, size: int = -1) -> str:
        try:
            with self.path.open("rb") as stream:
                raw = stream.read(size)
        except OSError as error:
            raise TritapeError(
                f"{self.path}: trace must be readable, not {error.strerror!r}; check the path"
            ) from error
        encoding = next((name for mark, name in MARKS.items() if raw.startswith(mark)), None)
        if encoding is not None:
            return raw.decode(encoding, errors="replace").replace("\r\n", "\n")
        try:
            text = raw.decode()
        except UnicodeDecodeError:
            text = raw.decode("latin-1")  # the micro sign of Windows programs
        return text.replace("\r\n", "\n").replace("\r", "\n")

    def _layout(self, text: str) -> Layout:
        layout = find_layout(text[:HEAD_BYTES].split("\n"), str(self.path))
        if layout.key is not None:
            keys = {split(line, layout.separator)[layout.key] for line in _some(text, layout)}
            if len(keys) < 2 and not keys & set(self.rails):
                layout.key = None  # one rail
            elif not self.rails:
                self._select({key: () for key in sorted(keys)})
        if layout.key is None:
            for name, columns in self._chosen(layout).items():
                if len(columns) == 1 and columns[0].unit == "A" and self.volts is None:
                    raise TritapeError(
                        f"{self.path}: rail {name or columns[0].name!r} must have a voltage, not only a current; "
                        f"give the supply's: csv:{self.path},volts=5"
                    )
        return layout

    def _chosen(self, layout: Layout) -> dict[str, tuple[Column, ...]]:
        """The rails that are asked for."""
        return {name: layout.rails[name] for name in self._select(layout.rails)}

    def _select(self, there: Mapping[str, tuple[Column, ...] | Trace]) -> list[str]:
        known = [name for name in there if name]
        if self.rails == ("all",):
            return list(there)
        if not self.rails:
            if len(there) > 1:
                raise TritapeError(
                    f"{self.path}: rails must be chosen where there are several ({', '.join(known)}), not left out; "
                    f"give csv:{self.path},rails={known[0]} for one, rails={'+'.join(known[:2])} for a sum, rails=all for all"
                )
            return list(there)
        names = []
        for asked in self.rails:
            name = next((name for name in there if asked.lower() in _spellings(name, there[name])), None)
            if name is None or name in names:
                raise TritapeError(
                    f"{self.path}: rail must be {'another one' if name in names else 'one'} of {', '.join(known) or 'one'}, "
                    f"not {asked!r}; choose one"
                )
            names.append(name)
        return names

    def _row_rail(self, row: list[str], layout: Layout) -> dict[str, tuple[Column, ...]]:
        assert layout.key is not None
        columns = next(iter(layout.rails.values()))
        return {row[layout.key]: columns}

    def _rows(self, text: str, layout: Layout) -> Iterator[tuple[int, list[str]]]:
        for number, line in enumerate(text.split("\n")[layout.lines :], layout.lines + 1):
            if line.strip() and not line.lstrip().startswith(("#", "%")):
                yield number, split(line, layout.separator)

    def _time(self, row: list[str], layout: Layout) -> float:
        cell = row[layout.time.index]
        if layout.date is not None:
            cell = f"{row[layout.date.index]} {cell}"
        when = read_time(cell, layout.time.scale, "utc" in layout.time.name.lower())
        start = self.start if self.start is not None else layout.start
        if not math.isfinite(when):
            raise ValueError
        return when + start if start is not None and abs(when) < UNIX_S else when

    def _check_time(self, when: float) -> None:
        if when < UNIX_S:
            raise TritapeError(
                f"{self.path}: times must be Unix time or dates, not {when:g} from the meter's own start; "
                f"say when that was: csv:{self.path},start=2026-01-31T12:00:00.0"
            )

    def _watts(self, row: list[str], columns: tuple[Column, ...]) -> float:
        factors = [_value(row, column) for column in columns]
        if len(factors) == 1:
            return factors[0] * (self.volts or 0.0) if columns[0].unit == "A" else factors[0]
        return factors[0] * factors[1]

    def _covers(self, end: float) -> bool:
        """Whether the last whole line is of a time behind `end`."""
        try:
            text = self._text(HEAD_BYTES)
            layout = find_layout(text.split("\n"), str(self.path))
            with self.path.open("rb") as stream:
                size = stream.seek(0, 2)
                stream.seek(max(0, size - HEAD_BYTES))
                lines = stream.read().decode("latin-1").replace("\x00", "").split("\n")
            whole = [line for line in lines[1:-1] if line.strip()]
            return self._time(split(whole[-1], layout.separator), layout) >= end
        except (TritapeError, OSError, ValueError, IndexError):
            return False


class _NotThereError(Exception):
    """A sample that the meter says it did not have."""


def read_csv(path: Path) -> Trace:
    """The trace in a file with one rail. Raises TritapeError as `CSVFile.read`."""
    return CSVFile(path).read()


def _some(text: str, layout: Layout) -> list[str]:
    """Lines by which it is seen whether a file has one rail or several."""
    lines = text[:HEAD_BYTES].split("\n")[layout.lines : -1]
    return [line for line in lines if len(split(line, layout.separator)) > (layout.key or 0)]


def _spellings(name: str, made: tuple[Column, ...] | Trace) -> set[str]:
    """How a user may write a rail, in small letters."""
    spellings = {name.lower()}
    if isinstance(made, tuple):
        whole = made[0].name.lower()
        spellings |= {whole, re.split(r"[(\[]", whole)[0].strip()}
    return spellings


def _value(row: list[str], column: Column) -> float:
    """A cell in watts, volts or amperes: a number, perhaps with a decimal comma, perhaps with its unit behind it."""
    cell = row[column.index]
    try:
        value = float(cell) * (column.scale or 1.0)
    except ValueError:
        value = _written(cell, column)
    if not math.isfinite(value):
        raise ValueError
    return value


def _written(cell: str, column: Column) -> float:
    """`_value` of a cell that is not a number alone."""
    if re.fullmatch(r"\[.*\]|N/?A|-", cell, re.IGNORECASE):
        raise _NotThereError
    found = re.fullmatch(r"([-+]?[\d.,]+(?:[eE][-+]?\d+)?)\s*([a-zA-Zµμ]*)", cell)
    if found is None:
        raise ValueError
    number = float(found[1].replace(",", ".") if found[1].count(",") == 1 and "." not in found[1] else found[1])
    unit, scale = UNITS.get(found[2].lower(), ("", 0.0)) if found[2] else (column.unit, column.scale or 1.0)
    if unit != column.unit:
        raise ValueError
    return number * scale
