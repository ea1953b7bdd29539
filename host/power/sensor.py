"""What a power sensor is to the recorder."""

from __future__ import annotations

from typing import Literal, Protocol


class Sensor(Protocol):
    """Something that says now how much power flows, or how much energy has flowed.

    `name` is for people and reports. `unit` says what `read` returns: `W`, the power at the moment of the call, or `J`,
    energy since an arbitrary zero that never decreases (the sensor unwraps its own counter). `scope` says in a few words
    what the sensor sees. `read` raises OSError when the sensor cannot be read; `close` may be called twice.
    """

    name: str
    unit: Literal["W", "J"]
    scope: str

    def read(self) -> float:
        """One sample in `unit`."""

    def close(self) -> None:
        """Give the sensor back."""


def read_int(path: object) -> int:
    """The decimal integer in a sysfs file. OSError when it cannot be read or is not one."""
    with open(str(path), "rb", buffering=0) as stream:
        text = stream.read(64)
    try:
        return int(text)
    except ValueError:
        raise OSError(f"{path}: no integer in {text!r}") from None
