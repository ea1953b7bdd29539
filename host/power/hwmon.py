"""Linux hwmon: the INA219, INA226, INA260 and others that the kernel drives, as on Kria and most carriers."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from tritape.base.errors import TritapeError
from tritape.host.power.sensor import read_int

ROOT = Path("/sys/class/hwmon")


class Hwmon:
    """One device under /sys/class/hwmon: `power1_input` (microwatts), else `in1_input` (mV) times `curr1_input` (mA).

    `name` is the device's `name` file, such as `ina260_u14`; None takes the first that measures power. Sees the rail that
    the shunt is in: on a Kria SOM the whole module, processor included. A chip with only bus voltage and current is
    read in two files, so a fast change between them is an error of one sample.

    Raises TritapeError, with the names there are, when none fits. Tested against a fake tree (tests/test_host_power.py).
    """

    unit: Literal["W", "J"] = "W"

    def __init__(self, name: str | None = None, root: Path = ROOT) -> None:
        found: dict[str, Path] = {}
        for folder in sorted(root.glob("hwmon*")):
            try:
                found.setdefault((folder / "name").read_text().strip(), folder)
            except OSError:
                continue  # without a name it cannot be asked for
        usable = {label: files for label, folder in found.items() if (files := _files(folder))}
        if name is None and usable:
            name = next(iter(usable))
        if name not in usable:
            known = ", ".join(usable) or "none"
            raise TritapeError(
                f"hwmon sensor must be one that measures power under {root} (there: {known}), not {name!r}; "
                "load its driver or choose another source"
            )
        self.name = f"hwmon:{name}"
        self.scope = f"the rail of {name}"
        self._files = usable[name]

    def read(self) -> float:
        """Watts now."""
        values = [read_int(path) for path in self._files]
        product = values[0] if len(values) == 1 else values[0] * values[1]  # mV * mA = microwatts
        return product * 1e-6

    def close(self) -> None:
        """Nothing is held open."""


def _files(folder: Path) -> tuple[Path, ...]:
    for names in (("power1_input",), ("in1_input", "curr1_input")):
        paths = tuple(folder / name for name in names)
        if all(path.is_file() for path in paths):
            return paths
    return ()
