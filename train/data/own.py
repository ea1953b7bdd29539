"""Texts of one's own as sources: any text file that a recipe names by its path."""

from __future__ import annotations

from pathlib import Path

from tritape.base.cache import digest
from tritape.base.errors import TritapeError
from tritape.base.files import read_text
from tritape.train.data.corpus import OTHER_HELD_OUT, OTHER_VALID, Corpus
from tritape.train.data.sources import SOURCES

MIN_CHARACTERS = 2000
"""Of a text, so that each part has some."""


def is_own(source: str) -> bool:
    """Whether a source of a recipe is a file and none of the named corpora."""
    return source not in SOURCES


def label(source: str) -> str:
    """A source as part of a file name."""
    return f"{Path(source).stem}-{digest(str(Path(source).resolve()))[:8]}" if is_own(source) else source


def own_text(path: Path) -> Corpus:
    """The three parts of a text file: the last 2 % are held out, the 2 % before are for validation, cut at ends of lines.

    It is read as editors save it: UTF-8 or UTF-16, any ends of lines. Raises TritapeError for other files and short texts.
    """
    text = read_text(path)
    if len(text) < MIN_CHARACTERS:
        raise TritapeError(
            f"{path}: text must have at least {MIN_CHARACTERS} characters, not {len(text)}; give more text"
        )
    return parts(text, path.name)


def parts(text: str, name: str = "text") -> Corpus:
    """The parts of a text that is long enough."""
    first = _end_of_line(text, 1 - OTHER_HELD_OUT - OTHER_VALID)
    second = max(_end_of_line(text, 1 - OTHER_HELD_OUT), first + 1)
    return Corpus(name, text[:first], text[first:second], text[second:])


def _end_of_line(text: str, share: float) -> int:
    """Behind a share of a text, and there behind the end of a line, if one is near."""
    place = int(len(text) * share)
    end = text.find("\n", place, place + len(text) // 100)
    return place if end < 0 else end + 1
