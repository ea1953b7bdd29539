"""RAPL over powercap: energy counters of the processor packages, for the CPU baseline."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from tritape.base.errors import TritapeError
from tritape.host.power.sensor import read_int

ROOT = Path("/sys/class/powercap")


class RAPL:
    """Sum of `energy_uj` over the package domains (`intel-rapl:N`; AMD processors have them under the same name).

    Each counter wraps at `max_energy_range_uj`; a value below the one before means one wrap, so sample faster than the
    counter turns (a minute or more at 100 W). Sees processor packages only: no memory modules, disks or
    losses of the supply.

    Raises TritapeError when there are none or they are not readable (on most systems root only). Tested against a
    fake tree with wraps (tests/test_host_power.py).
    """

    unit: Literal["W", "J"] = "J"
    name = "rapl"

    def __init__(self, root: Path = ROOT) -> None:
        domains = [
            folder
            for folder in sorted(root.glob("intel-rapl:*"))
            if folder.name.count(":") == 1 and _text(folder / "name").startswith("package")
        ]
        if not domains:
            raise TritapeError(
                f"rapl must have a package domain under {root}, not none; load intel_rapl_msr, or use another source"
            )
        self.scope = f"{len(domains)} processor package{'s' if len(domains) > 1 else ''}"
        self._counters = [folder / "energy_uj" for folder in domains]
        try:
            self._ranges = [read_int(folder / "max_energy_range_uj") for folder in domains]
            self._last = [read_int(path) for path in self._counters]
        except OSError as error:
            raise TritapeError(
                f"{error.filename or root}: counter must be readable, not {error.strerror!r}; "
                "run as root, or: chmod a+r /sys/class/powercap/*/energy_uj"
            ) from error
        self._microjoules = 0

    def read(self) -> float:
        """Joules since this object was made."""
        for index, path in enumerate(self._counters):
            now = read_int(path)
            step = now - self._last[index]
            self._microjoules += step if step >= 0 else step + self._ranges[index] + 1
            self._last[index] = now
        return self._microjoules * 1e-6

    def close(self) -> None:
        """Nothing is held open."""


def _text(path: Path) -> str:
    try:
        return path.read_text().strip()
    except OSError:
        return ""
