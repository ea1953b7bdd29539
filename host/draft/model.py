"""Guesses by a small model on this machine's processor, which draws with the target's own noise."""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence

from tritape.host.cpu import CPUModel, Place
from tritape.model import arith
from tritape.model.quantised import QuantisedModel

_TRIED = 8  # tokens that tell the time of one


class ModelDraft:
    """A `Draft` of a model of the target's tokenizer (`host.cpu.CPUModel`). Its sequences take turns on it, from any thread.

    The sampler is Gumbel-max over a known generator: the draft runs the same tokens from the same generator, so it adds to its
    logits the noise that the target adds to its own, and the two agree far more often than two samplers do.
    """

    def __init__(self, model: QuantisedModel, name: str) -> None:
        self.name = name
        self.model = CPUModel(model)
        self.lock = threading.Lock()
        self.model.reset()
        self._start = self.model.place()
        self.model.go_on(0, _TRIED)  # caches and clocks as in a text
        started = time.perf_counter()
        self.model.go_on(0, _TRIED)
        self.guess_s = (time.perf_counter() - started) / _TRIED

    def begin(self, inverse: int, generator: int) -> ModelGuesser:
        """A guesser at the beginning of a sequence."""
        place = self._start.copy()
        place[-1] = generator or arith.XORSHIFT_DEFAULT
        return ModelGuesser(self, inverse, place)


class ModelGuesser:
    """Guesses for one sequence.

    `_path` is what it expects to be run next, the first token of it given or expected; `_places[i]` stands behind path[i], and
    the path is one token longer. `_base` and the tokens `_unfed` stand where the path begins.
    """

    def __init__(self, draft: ModelDraft, inverse: int, place: Place) -> None:
        self._draft, self._inverse = draft, inverse
        self._base, self._unfed = place, list[int]()
        self._path, self._places = list[int](), list[Place]()

    def take(self, tokens: Sequence[int]) -> None:
        """Follow the sequence; what was expected and has not come is forgotten."""
        for token in tokens:
            if self._places and self._path[0] == token:
                del self._path[0]
                self._base = self._places.pop(0)
            else:
                self._path, self._places = [], []
                self._unfed.append(token)

    def guess(self, first: int, count: int) -> list[int]:
        """The model's own text behind `first`."""
        if not self._path or self._path[0] != first:
            self._path, self._places = [first], []
        if (missing := count + 1 - len(self._path)) > 0:
            self._extend(missing)
        return self._path[1 : count + 1]

    def ahead(self, count: int) -> None:
        """Catch up with the sequence; with a count, guess for the next step too, as if all guesses of this one were right, and
        the token behind them as expected."""
        if self._path and count:
            self.guess(self._path[0], 2 * count)
        elif self._unfed:
            self._extend(0)

    def _extend(self, count: int) -> None:
        draft, model = self._draft, self._draft.model
        with draft.lock:
            model.inverse(self._inverse)
            model.go_back(self._places[-1] if self._places else self._base)
            if self._unfed:
                model.feed(self._unfed)
                self._base, self._unfed = model.place(), []
            chosen, places = model.go_on(self._path[-1], count) if count else ([], [])
        self._path += chosen
        self._places += places
