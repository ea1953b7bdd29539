"""A trace that a bench meter wrote: a CSV file, read after the run."""

from __future__ import annotations

import csv
import math
from pathlib import Path

from tritape.base.errors import TritapeError
from tritape.host.power.trace import Trace

POWER = {"w": 1.0, "watts": 1.0, "watt": 1.0, "power": 1.0, "power_w": 1.0, "mw": 1e-3, "power_mw": 1e-3}
VOLTS = {"v": 1.0, "volts": 1.0, "voltage": 1.0, "voltage_v": 1.0, "mv": 1e-3, "voltage_mv": 1e-3}
AMPERES = {"a": 1.0, "amps": 1.0, "amperes": 1.0, "current": 1.0, "current_a": 1.0, "ma": 1e-3, "current_ma": 1e-3}
TIME = {"t": 1.0, "time": 1.0, "time_s": 1.0, "seconds": 1.0, "timestamp": 1.0, "time_ms": 1e-3, "ms": 1e-3}


def read_csv(path: Path) -> Trace:
    """The trace in a CSV file with a header line: a column of Unix time, and one of power or two of voltage and current.

    Column names, without regard to case: time `t time time_s seconds timestamp time_ms ms`; power `w watts power power_w mw
    power_mw`; else voltage `v volts voltage mv ...` and current `a amps current ma ...`. Meter and host must agree on the
    time to a fraction of the run (NTP). Raises TritapeError naming the file and line.
    """
    try:
        with Path(path).open(newline="", encoding="utf-8-sig", errors="replace") as stream:
            rows = csv.reader(stream)
            header = [name.strip().lower() for name in next(rows, [])]
            time = _column(header, TIME)
            power = _column(header, POWER)
            volts, amperes = _column(header, VOLTS), _column(header, AMPERES)
            if time is None or (power is None and (volts is None or amperes is None)):
                raise TritapeError(
                    f"{path}: header must name time and power, or time, voltage and current, not {','.join(header)!r}; "
                    "write for example: time,watts"
                )
            trace = Trace()
            for line, row in enumerate(rows, 2):
                if not any(cell.strip() for cell in row):
                    continue
                try:
                    when = _value(row, time)
                    if power is not None:
                        watts = _value(row, power)
                    else:
                        assert volts is not None
                        assert amperes is not None
                        watts = _value(row, volts) * _value(row, amperes)
                    trace.add_power(when, watts)
                except (ValueError, IndexError):
                    raise TritapeError(
                        f"{path}: line {line} must have numbers with rising time, not {','.join(row)!r}; remove or repair it"
                    ) from None
    except OSError as error:
        raise TritapeError(f"{path}: trace must be readable, not {error.strerror!r}; check the path") from error
    if len(trace) < 2:
        raise TritapeError(f"{path}: trace must have at least 2 samples, not {len(trace)}; record longer")
    return trace


Column = tuple[int, float]


def _column(header: list[str], names: dict[str, float]) -> Column | None:
    for index, name in enumerate(header):
        if name in names:
            return index, names[name]
    return None


def _value(row: list[str], column: Column) -> float:
    index, scale = column
    value = float(row[index]) * scale
    if not math.isfinite(value):
        raise ValueError
    return value
