"""Energy over time, from samples of power or of an energy counter."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence
from itertools import pairwise

from tritape.base.errors import TritapeError


class Trace:
    """Energy over time: rising times (Unix seconds) with the joules that had flowed by then, from the first sample on.

    Power samples are joined by the trapezoid rule; between samples energy is taken as linear. Adding raises ValueError
    when the time does not rise.
    """

    def __init__(self) -> None:
        self.times: list[float] = []
        self.joules: list[float] = []
        self._last = 0.0  # watts, or the counter, of the last sample

    def __len__(self) -> int:
        return len(self.times)

    def add_power(self, when: float, watts: float) -> None:
        """A sample of power."""
        step = self._step(when)
        self._append(when, 0.5 * (watts + self._last) * step, watts)

    def add_energy(self, when: float, joules: float) -> None:
        """A sample of an energy counter."""
        step = self._step(when)
        self._append(when, joules - self._last if step else 0.0, joules)

    def covers(self, when: float) -> bool:
        """Whether the energy at that time is known."""
        return bool(self.times) and self.times[0] <= when <= self.times[-1]

    def energy(self, start: float, end: float) -> float:
        """Joules from `start` to `end`. Raises TritapeError unless the samples cover both."""
        return self._until(end) - self._until(start)

    @classmethod
    def total(cls, traces: Sequence[Trace]) -> Trace:
        """The energy of several traces together, over the time that all cover. Raises TritapeError where there is none."""
        if len(traces) == 1:
            return traces[0]
        begin, end = max(trace.times[0] for trace in traces), min(trace.times[-1] for trace in traces)
        if begin >= end:
            raise TritapeError("rails must be measured at the same time, not one after the other; record them together")
        summed = cls()
        summed.times = sorted({when for trace in traces for when in trace.times if begin <= when <= end})
        for trace in traces:
            first = trace._until(begin)
            steps = [trace._until(when) - first for when in summed.times]
            summed.joules = [a + b for a, b in zip(summed.joules, steps)] if summed.joules else steps
        return summed

    def power(self) -> tuple[list[float], list[float]]:
        """(middle of each interval, mean watts in it), for drawing."""
        pairs = list(pairwise(zip(self.times, self.joules, strict=True)))
        middles = [(a[0] + b[0]) / 2 for a, b in pairs]
        return middles, [(b[1] - a[1]) / (b[0] - a[0]) for a, b in pairs]

    def _step(self, when: float) -> float:
        if not self.times:
            return 0.0
        if when <= self.times[-1]:
            raise ValueError("time of samples must rise")
        return when - self.times[-1]

    def _append(self, when: float, joules: float, value: float) -> None:
        self.joules.append((self.joules[-1] if self.joules else 0.0) + joules)
        self.times.append(when)
        self._last = value

    def _until(self, when: float) -> float:
        if not self.covers(when):
            covered = f"{self.times[0]:.3f} to {self.times[-1]:.3f}" if self.times else "nothing"
            raise TritapeError(
                f"power samples must cover the time {when:.3f}, not {covered} (Unix seconds); "
                "start the meter before the run, stop it after, and set its clock"
            )
        index = bisect_left(self.times, when)
        if self.times[index] == when:
            return self.joules[index]
        before, after = self.times[index - 1], self.times[index]
        part = (when - before) / (after - before)
        return self.joules[index - 1] + part * (self.joules[index] - self.joules[index - 1])
