"""How many guesses a step verifies: as many as pay, by what was accepted and by the time that steps and guesses took."""

from __future__ import annotations

import math
import time
from collections.abc import Callable

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

    A plain step runs by itself behind another one; one with guesses is loaded and awaited, and its samplers may be set. So each
    has a time of its own. Both are known about from the prompt on (`began`), and then measured.
    """

    def __init__(self, clock: Callable[[], float] = time.perf_counter) -> None:
        self.clock = clock
        self.load_s = 0.0  # an exchange that waits for no step
        self.plain_s: float | None = None
        self.step_s: float | None = None
        self._guess_s: float | None = None
        self.rest = 0
        """Plain steps before guesses are tried again."""

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
        """A step with guesses took so long, loading included."""
        self.step_s = _mean(self.step_s, seconds)

    def guessed(self, seconds: float, count: int) -> None:
        """The device waited for so many guesses."""
        self._guess_s = _mean(self._guess_s, seconds / count)

    @property
    def guess_s(self) -> float:
        """A guess, where the device waits for it."""
        return self._guess_s or 0.0

    def count(self, rate: float, room: int, sequences: int) -> int:
        """How many guesses of a sequence are worth their time, at most `room`."""
        if self.plain_s is None:
            return room
        least = self.guess_s * sequences / self.plain_s  # tokens that the device makes meanwhile
        if rate >= 1 or not least:
            return room
        return min(room, int(math.log(max(least, 1e-6)) / math.log(max(rate, 1e-6)))) if least < 1 else 0

    def hides(self, guesses: int) -> bool:
        """Whether so many guesses and the next ones are made while the device runs a step."""
        return bool(guesses) and self.plain_s is not None and self.guess_s * (guesses + 1) < self.plain_s

    def exchange_steps(self, exchanges: int) -> int:
        """Plain steps in the time of so many exchanges."""
        return 0 if self.plain_s is None else math.ceil(exchanges * self.load_s / self.plain_s)

    def pays(self, gain: float, guesses: int, sequences: int) -> bool:
        """Whether a step that brings `gain` tokens more than one of each sequence beats plain steps."""
        if self.plain_s is None or self.step_s is None:
            return True
        return (sequences + gain) * self.plain_s > sequences * (self.step_s + guesses * self.guess_s)

    def pause(self, guesses: int) -> None:
        """So many guesses did not pay, or (0) there were none: leave them until trying again costs no more than `LOSS`."""
        self.rest = 1
        if self.plain_s is not None and self.step_s is not None:
            lost = self.step_s + guesses * self.guess_s - self.plain_s if guesses else self.load_s
            self.rest = min(max(math.ceil(lost / (LOSS * self.plain_s)), 1), MOST_REST)

    def never(self) -> None:
        """Guesses cannot pay, were all of them right: leave them for long."""
        self.rest = MOST_REST


def _mean(before: float | None, now: float) -> float:
    return now if before is None else before + _TIME_WEIGHT * (now - before)
