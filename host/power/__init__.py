"""Power sensors: one small class each, opened by a short text such as `hwmon:ina260_u14`."""

from __future__ import annotations

from tritape.base.errors import TritapeError
from tritape.host.power.csv_trace import FORM, CSVFile, read_csv
from tritape.host.power.hwmon import Hwmon
from tritape.host.power.ina226 import INA226
from tritape.host.power.nvml import NVML
from tritape.host.power.rapl import RAPL
from tritape.host.power.sensor import Sensor

__all__ = ["INA226", "NVML", "RAPL", "SOURCES", "CSVFile", "Hwmon", "Sensor", "open_sensor", "open_source", "read_csv"]

SOURCES = {
    "hwmon": "hwmon[:NAME], a sensor of the kernel, such as hwmon:ina260_u14; NAME@N, NAME/CHANNEL or a path, joined with +",
    "ina226": "ina226:BUS:ADDRESS:OHMS, such as ina226:1:0x40:0.002",
    "rapl": "rapl, the packages of an Intel or AMD processor",
    "nvml": "nvml[:INDEX], an NVIDIA GPU",
}
"""Live sources by their first word, and how each is written."""
FILE_SOURCE = f"{FORM}, a meter's file, read after the run"
CSV = "csv:"


def open_source(text: str) -> Sensor | CSVFile:
    """What `text` names: a live sensor as of `open_sensor`, or a meter's file, which is read after the run."""
    if text.startswith(CSV):
        return CSVFile.from_text(text.removeprefix(CSV))
    return open_sensor(text)


def open_sensor(text: str) -> Sensor:
    """The sensor that `text` names. Raises TritapeError when it is not one of `SOURCES` or cannot be read."""
    kind, _, rest = text.partition(":")
    if kind == "hwmon":
        return Hwmon(rest or None)
    if kind == "ina226":
        return INA226.from_text(rest)
    if kind == "rapl" and not rest:
        return RAPL()
    if kind == "nvml" and (not rest or rest.isdecimal()):
        return NVML(int(rest or 0))
    raise TritapeError(
        f"power source must be one of {'; '.join(SOURCES.values())}; or, for bench, {FILE_SOURCE}; not {text!r}; choose one"
    )
