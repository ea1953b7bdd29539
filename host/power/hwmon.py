"""Linux hwmon: the INA219, INA226, INA260, INA3221 and others that the kernel drives, as on Kria and most carriers."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from tritape.base.errors import TritapeError
from tritape.host.power.sensor import read_int

ROOT = Path("/sys/class/hwmon")


@dataclass(frozen=True)
class Rail:
    """One thing that a chip measures: `label` is what a user types for it; power is in one file, or in two to be multiplied."""

    chip: str
    folder: Path
    channel: int
    label: str
    files: tuple[Path, ...]

    def read(self) -> float:
        """Watts now."""
        values = [read_int(path) for path in self.files]
        product = values[0] if len(values) == 1 else values[0] * values[1]  # mV * mA = microwatts
        return product * 1e-6

    def is_called(self, name: str) -> bool:
        """Whether a user who types `name` may mean this rail: a chip, `CHIP@N`, either with `/CHANNEL`, a folder or a file."""
        if name.startswith("/"):
            path = Path(name)
            return path in self.files or path == self.folder or path.resolve() == self.folder.resolve()
        found = re.fullmatch(r"(.*?)(?:@(\d+))?(?:/(\d+))?", name)
        assert found is not None
        number, channel = found[2], found[3]
        return (
            found[1] == self.chip
            and (number is None or int(number) == _number(self.folder))
            and (channel is None or int(channel) == self.channel)
        )


class Hwmon:
    """Rails of devices under /sys/class/hwmon, summed: `powerN_input` (microwatts; `powerN_average` of GPUs), else `inN_input`
    (mV) times `currN_input` (mA).

    `names`: one or more rails, joined with `+`. Each is a device's `name` file, such as `ina260_u14`; where several have the
    same name `NAME@N` with the N of `hwmonN`; where a chip has several channels `NAME/CHANNEL`; or a path, of the device's
    folder or of a `powerN_input`. None takes the first chip that measures power. Sees the rail that the shunt is in: on a Kria
    SOM the whole module, processor included. A chip with only bus voltage and current is read in two files, so a fast
    change between them is an error of one sample.

    Raises TritapeError, with the names there are, when none fits or more than one does. Tested against a fake tree
    (tests/test_host_power.py).
    """

    unit: Literal["W", "J"] = "W"

    def __init__(self, names: str | None = None, root: Path = ROOT) -> None:
        rails = _rails(root)
        if names is None and rails:
            names = rails[0].chip
        self._rails = [_choose(name, rails, root) for name in ([None] if names is None else names.split("+"))]
        if len(set(self._rails)) < len(self._rails):
            raise TritapeError(f"hwmon sensors must be different ones, not {names!r}; name each rail once")
        self.name = f"hwmon:{names}"
        self.scope = f"the rail{'s' if len(self._rails) > 1 else ''} of {names}"

    def read(self) -> float:
        """Watts now, of all rails."""
        return sum(rail.read() for rail in self._rails)

    def close(self) -> None:
        """Nothing is held open."""


def _choose(name: str | None, rails: list[Rail], root: Path) -> Rail:
    fitting = [] if name is None else [rail for rail in rails if rail.is_called(name)]
    if not fitting:
        known = ", ".join(dict.fromkeys(rail.label for rail in rails)) or "none"
        raise TritapeError(
            f"hwmon sensor must be one that measures power under {root} (there: {known}), not {name!r}; "
            "load its driver or choose another source"
        )
    if len(fitting) > 1:
        labels = [rail.label for rail in fitting]
        raise TritapeError(
            f"hwmon sensor must be one rail, not {name!r}, which is {' and '.join(labels)}; "
            f"give hwmon:{labels[0]} for one, hwmon:{'+'.join(labels)} for their sum"
        )
    return fitting[0]


def _rails(root: Path) -> list[Rail]:
    """Every rail under `root`, in the order of the kernel's numbers, with labels that are no longer than they must be."""
    found: list[Rail] = []
    for folder in sorted(root.glob("hwmon*"), key=_number):
        try:
            chip = (folder / "name").read_text().strip()
        except OSError:
            continue  # without a name it cannot be asked for
        found += [Rail(chip, folder, channel, chip, files) for channel, files in _channels(folder).items()]
    labelled = []
    for rail in found:
        folders = {other.folder for other in found if other.chip == rail.chip}
        channels = [other for other in found if other.folder == rail.folder]
        label = rail.chip + (f"@{_number(rail.folder)}" if len(folders) > 1 else "")
        label += f"/{rail.channel}" if len(channels) > 1 else ""
        labelled.append(Rail(rail.chip, rail.folder, rail.channel, label, rail.files))
    return labelled


def _channels(folder: Path) -> dict[int, tuple[Path, ...]]:
    """The files of each channel. A chip that says its power is asked for that alone."""
    for pattern in (("power{}_input",), ("power{}_average",), ("in{}_input", "curr{}_input")):
        first = re.compile(pattern[0].format(r"(\d+)"))
        numbers = sorted(int(found[1]) for path in folder.iterdir() if (found := first.fullmatch(path.name)))
        channels = {number: tuple(folder / name.format(number) for name in pattern) for number in numbers}
        channels = {number: files for number, files in channels.items() if all(path.is_file() for path in files)}
        if channels:
            return channels
    return {}


def _number(folder: Path) -> int:
    """The N of `hwmonN`."""
    digits = re.search(r"\d+$", folder.name)
    return int(digits[0]) if digits else -1
