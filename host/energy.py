"""The thread that samples a power sensor while something runs."""

from __future__ import annotations

import threading
import time
from types import TracebackType

from tritape.base.errors import TritapeError
from tritape.host.power.sensor import Sensor
from tritape.host.power.trace import Trace

INTERVAL_S = 0.005
"""Time between samples unless asked otherwise; the sensors here renew their value every 1 to 35 ms."""


class Recorder:
    """Samples a sensor on a thread of its own while the `with` block runs.

    `trace` is complete after the block. A sensor that cannot be read at all raises TritapeError at the beginning of the block;
    one that is lost in it does not end what runs: `check` says so, in it or behind it, and `trace` has what was measured
    until then. A sample's time is the middle between the clock before and after its reading. The recorder closes the
    sensor at the end. Error on a fake sysfs tree of known energy: under 1 % (tests/test_host_energy.py).
    """

    def __init__(self, sensor: Sensor, interval_s: float = INTERVAL_S) -> None:
        self.sensor = sensor
        self.trace = Trace()
        self._interval = interval_s
        self._stop = threading.Event()
        self._first = threading.Event()
        self._fault: OSError | None = None
        self._thread = threading.Thread(target=self._run, name=f"power {sensor.name}", daemon=True)
        self._zero = time.time() - time.monotonic()  # Unix time that steps of the system's clock cannot disturb

    def now(self) -> float:
        """The clock of the samples, Unix seconds."""
        return time.monotonic() + self._zero

    def lost(self) -> str | None:
        """Why the sensor was lost; None while it is there."""
        if self._fault is None:
            return None
        why = self._fault.strerror or str(self._fault)
        return (
            f"{self.sensor.name}: sensor must stay readable, not vanish after {len(self.trace)} samples ({why}); "
            "check its cable or driver and run again"
        )

    def check(self) -> None:
        """Raise TritapeError if the sensor was lost."""
        if (why := self.lost()) is not None:
            raise TritapeError(why)

    def __enter__(self) -> Recorder:
        self._thread.start()
        self._first.wait(5)
        if self._fault is not None:
            self.sensor.close()
            self.check()
        return self

    def __exit__(self, kind: type[BaseException] | None, value: BaseException | None, tb: TracebackType | None) -> None:
        self._stop.set()
        self._thread.join(5)
        self.sensor.close()

    def _run(self) -> None:
        add = self.trace.add_power if self.sensor.unit == "W" else self.trace.add_energy
        while True:
            last = self._stop.is_set()  # one more sample after the end, so that the samples cover it
            try:
                before = self.now()
                value = self.sensor.read()
                add((before + self.now()) / 2, value)
            except OSError as error:
                self._fault = error
                self._first.set()
                return
            self._first.set()
            if last:
                return
            self._stop.wait(self._interval)
