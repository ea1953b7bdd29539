"""How many guesses a step verifies: as many as pay, by what was accepted and by the time that steps and guesses took."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence

FIRST_RATE = 0.7
"""Share of guesses that are expected to be right before any was seen."""
LOSS = 0.01
"""Share of the time that may go into trying whether guesses pay again."""
MOST_REST = 256
"""Plain steps until they are tried again, at most."""
_WEIGHT = 0.1  # of a guess
_TIME_WEIGHT = 0.25  # of a time
_LEAST_S = 1e-9


class Rate:
    """Of one sequence: the share of its guesses that were right, an average that forgets."""

    def __init__(self) -> None:
        self.value = FIRST_RATE

    def saw(self, guessed: int, right: int) -> None:
        """Of so many guesses the first `right` ones were accepted; those behind a wrong one say nothing."""
        for number in range(min(right + 1, guessed)):
            self.value += _WEIGHT * ((number < right) - self.value)

    def gain(self, count: int) -> float:
        """Tokens that so many guesses are expected to add to a step."""
        return math.fsum(self.value**number for number in range(1, count + 1))


class Pace:
    """Compares a step with guesses with the plain ones of a device, in seconds of `clock`.

    A plain step runs by itself behind another one; one with guesses is loaded and awaited, and takes `step_s`. To it come the
    guesses, and the generators of slots that must be set for them. What is not measured yet is known about from the prompt on
    (`began`); `guess_s` is what a guess takes, about: then a measured one.
    """

    def __init__(self, clock: Callable[[], float] = time.perf_counter, guess_s: float = 0.0) -> None:
        self.clock, self.guess_s = clock, guess_s
        self.load_s = 0.0  # an exchange that waits for no step
        self.plain_s: float | None = None
        self.step_s: float | None = None
        self._set_s: float | None = None
        self.rest = 0
        """Plain steps before guesses are tried again."""

    @property
    def set_s(self) -> float:
        """To set a generator: two commands."""
        return 2 * self.load_s if self._set_s is None else self._set_s

    def began(self, load_s: float, wait_s: float, steps: int) -> None:
        """A prompt of so many steps took so long to be loaded, and to run; the first idea of all times."""
        self.load_s = load_s
        if self.plain_s is None:
            self.plain_s = max((wait_s - load_s) / steps, _LEAST_S)
        if self.step_s is None:
            self.step_s = self.plain_s + 2 * load_s

    def plain(self, seconds: float) -> None:
        """A step that ran by itself took so long."""
        self.plain_s = _mean(self.plain_s, max(seconds, _LEAST_S))

    def verified(self, seconds: float) -> None:
        """A step with guesses took so long from its loading on."""
        self.step_s = _mean(self.step_s, seconds)

    def guessed(self, seconds: float, count: int) -> None:
        """The device waited for so many guesses."""
        self.guess_s = _mean(self.guess_s or None, seconds / count)

    def set(self, seconds: float, count: int) -> None:
        """So many generators were set."""
        self._set_s = _mean(self._set_s, seconds / count)

    def count(self, rate: Rate, unset: Sequence[bool], sequences: int) -> int:
        """How many guesses of a sequence make the most tokens a second, one at least; `unset`: for each that there is room for,
        whether a generator would have to be set for it."""
        if self.step_s is None:
            return len(unset)
        best, most, seconds = 1, 0.0, self.step_s
        for number, setting in enumerate(unset, 1):
            seconds += self.guess_s + setting * self.set_s
            if (speed := (sequences + rate.gain(number)) / seconds) > most:
                best, most = number, speed
        return best

    def hides(self, guesses: int) -> bool:
        """Whether so many guesses and the next ones are made while the device runs a step."""
        return bool(guesses) and self.plain_s is not None and self.guess_s * (guesses + 1) < self.plain_s

    def exchange_steps(self, exchanges: int) -> int:
        """Plain steps in the time of so many exchanges."""
        return 0 if self.plain_s is None else math.ceil(exchanges * self.load_s / self.plain_s)

    def pays(self, gain: float, guesses: int, settings: int, sequences: int) -> bool:
        """Whether a step that brings `gain` tokens more than one of each sequence beats plain steps."""
        if self.plain_s is None or self.step_s is None:
            return True
        return (sequences + gain) * self.plain_s > sequences * self._step(guesses, settings)

    def pause(self, guesses: int, settings: int = 0) -> None:
        """So many guesses did not pay, or (0) there were none: leave them until trying again costs no more than `LOSS`."""
        self.rest = 1
        if self.plain_s is not None:
            lost = self._step(guesses, settings) - self.plain_s if guesses else self.load_s
            self.rest = min(max(math.ceil(lost / (LOSS * self.plain_s)), 1), MOST_REST)

    def never(self) -> None:
        """Guesses cannot pay, were all of them right: leave them for long."""
        self.rest = MOST_REST

    def _step(self, guesses: int, settings: int) -> float:
        return (self.step_s or 0.0) + guesses * self.guess_s + settings * self.set_s


def _mean(before: float | None, now: float) -> float:
    return now if before is None else before + _TIME_WEIGHT * (now - before)
