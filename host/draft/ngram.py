"""Guesses by repetition: what followed the last time that the text was as it is now."""

from __future__ import annotations

from collections.abc import Sequence

LONGEST, SHORTEST = 6, 1
"""Tokens of a context that is looked for, at most and at least."""


class NGramDraft:
    """A `Draft` that knows nothing but the sequence itself: prompt and text so far."""

    name = "ngram"
    guess_s = 5e-6

    def begin(self, inverse: int, generator: int) -> NGramGuesser:
        """A guesser without a past; sampler and generator do not matter."""
        return NGramGuesser()


class NGramGuesser:
    """Continues the longest context, of `LONGEST` to `SHORTEST` tokens, that the sequence has had before, from its last place.

    A guess goes on into itself, so a text that repeats a short loop is guessed on without an end. Cost: an entry of a dict for
    each length and token, some microseconds a token.
    """

    def __init__(self) -> None:
        self._known: list[int] = []
        self._after: dict[tuple[int, ...], int] = {}  # a context, and the place behind it

    def take(self, tokens: Sequence[int]) -> None:
        """Remember tokens that were run."""
        known, after = self._known, self._after
        for token in tokens:
            # A context is entered when a token follows it, so the present one is not found as its own past.
            end = len(known)
            for size in range(SHORTEST, min(LONGEST, end) + 1):
                after[tuple(known[end - size :])] = end
            known.append(token)

    def guess(self, first: int, count: int) -> list[int]:
        """What followed the longest context that ends with `first`; nothing where there is none."""
        known, total = self._known, len(self._known)
        text = [*known[-LONGEST + 1 :], first]
        for size in range(min(LONGEST, len(text)), SHORTEST - 1, -1):
            place = self._after.get(tuple(text[-size:]))
            if place is not None:
                break
        else:
            return []
        guesses: list[int] = []
        for at in range(place, place + count):
            behind = at - total  # 0: `first` itself, then the guesses
            guesses.append(known[at] if behind < 0 else first if behind == 0 else guesses[behind - 1])
        return guesses

    def ahead(self, count: int) -> None:
        """Nothing: a guess is made in no time."""
