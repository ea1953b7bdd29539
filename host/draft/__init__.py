"""Guesses at the tokens to come, which a device with several slots verifies in one step (docs/speculation.md)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from tritape.base.errors import TritapeError
from tritape.model.open import OpenModel, open_model

NGRAM = "ngram"


class Guesser(Protocol):
    """Guesses for one sequence: it is told every token that was run, in order."""

    def take(self, tokens: Sequence[int]) -> None:
        """These tokens of the sequence have been run, or are under way."""

    def guess(self, first: int, count: int) -> list[int]:
        """At most `count` tokens to follow `first`, which is run next."""

    def ahead(self, count: int) -> None:
        """Done while the device is busy: catch up with the sequence, and prepare for the case that the `count` guesses which it
        verifies are all right."""


class Draft(Protocol):
    """What makes guessers. `name`: of the draft, for people; `guess_s`: seconds for a guess, about."""

    name: str
    guess_s: float

    def begin(self, inverse: int, generator: int) -> Guesser:
        """A guesser for a sequence that is about to begin, with this inverse temperature and state of its generator."""


def open_draft(name: str, target: OpenModel) -> Draft:
    """The draft `ngram`, or a model of the target's tokenizer on this machine's processor.

    Raises TritapeError for a model with another tokenizer or vocabulary, and as `open_model`.
    """
    if name == NGRAM:
        from tritape.host.draft.ngram import NGramDraft

        return NGramDraft()
    from tritape.host.draft.model import ModelDraft

    model = open_model(name)
    size, wanted = model.config.vocab_size, target.config.vocab_size
    if size != wanted or any(_text(model, token) != _text(target, token) for token in range(size)):
        raise TritapeError(
            f"{name}: tokenizer of the draft must be that of {target.name} ({wanted} tokens), not another ({size} tokens); "
            "choose a model that was trained with it, or ngram"
        )
    return ModelDraft(model.quantised, model.name)


def _text(model: OpenModel, token: int) -> tuple[str, bool]:
    """What a token is: two tokenizers are the same here if all their ids mean the same."""
    return model.codec.decode_plain([token]), model.codec.has_text(token)
