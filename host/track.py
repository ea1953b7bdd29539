"""A sequence on the slots of a device, and its share of the steps that `Stepper` runs."""

from __future__ import annotations

from dataclasses import dataclass, field

from tritape.host.draft import Guesser
from tritape.host.draft.adaptive import Rate
from tritape.host.slots import Stream


@dataclass(eq=False)
class Track:
    """A sequence whose state is in a slot, or begins there."""

    slot: int
    feed: list[int]
    """Tokens to be run that are known: what is left of its prompt, or the token chosen last."""
    left: int
    """Tokens that are wanted."""
    inverse: int
    stream: Stream
    fed: int = 0
    """Tokens run since the stream's beginning."""
    fresh: bool = True
    alone: bool = False
    """Whether its slot chose `feed`, and can go on by itself."""
    guesser: Guesser | None = None
    rate: Rate = field(default_factory=Rate)


@dataclass
class DraftCounts:
    """What came of guesses: steps of sequences that chose a token, guesses verified and accepted, and the seconds for them."""

    steps: int = 0
    guessed: int = 0
    accepted: int = 0
    draft_seconds: float = 0.0

    def report(self) -> dict[str, float]:
        """JSON-ready; `accepted_per_step`: guesses of a step that were right, so many tokens more than one."""
        return {"accepted_per_step": self.accepted / max(self.steps, 1), "draft_seconds": self.draft_seconds}


@dataclass
class Part:
    """A track's share of a step: its slots in order, and the tokens on them, none where its slot takes what it chose.

    The first `known` of them count whatever the device chooses; the others are guesses. `ends`: whether it chooses a token.
    """

    track: Track
    slots: list[int]
    tokens: list[int]
    known: int
    ends: bool


Step = list[Part]


@dataclass
class Window:
    """Steps that run without a word from the host between them: those loaded, and those of `tail`, which the slots run by
    themselves. `total` of them, and `most` if nothing else is to be done."""

    start: int
    steps: list[Step]
    tail: Step
    total: int
    most: int
    granted: int
    guesses: int
    settings: int
    began: float
    load_s: float
    asked: bool = False
    read: int = 0
    first: tuple[float, int] | None = None
    """When the first answer came, and the steps of it."""

    def parts(self, step: int) -> Step:
        """Who takes part in a step."""
        return self.steps[step] if step < len(self.steps) else self.tail
