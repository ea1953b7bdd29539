"""A corpus on disk: text to train on, to choose by and to report, and a manifest that says where every byte came from.

The held-out part of the novels is `heldout.txt` of the starter model, byte for byte: from a given paragraph near 95 %
of each novel to its end. So bits per byte of all models, old and new, compare. Other sources give their last 2 %.
The validation part, on which runs are compared and choices made, lies right before it: 2.5 % of each novel, 2 % of
other sources. Novels whose parts share a paragraph of more than 80 characters are refused.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from tritape.base.errors import TritapeError
from tritape.base.files import replacing
from tritape.train.data.sources import SOURCES, Documents

AUSTEN_HELD_OUT = (
    '"Oh!" cried Jane, with a blush and an hesitation which Emma thought',
    "Mrs. Rushworth had gone, for the Easter holidays, to Twickenham",
    '"Then you are fretting about General Tilney, and that is very simple',
    '"Captain Wentworth, which way are you going? Only to Gay Street',
    '"I knew," said he, "that what I wrote must give you pain, but it was',
    '"It was a foolish, idle inclination on my side," said he, "the',
)
"""How the first held-out paragraph of each novel begins."""
AUSTEN_HELD_OUT_SHA256 = "04dd79a73b112813269bc3f964e522464d093dc4059e3c563a87ae9a01564abb"
OTHER_HELD_OUT = 0.02
"""Share of every other source that is held out."""
AUSTEN_VALID, OTHER_VALID = 0.025, 0.02
"""Share of each novel, and of every other source, that lies before the held-out part and is for validation."""
PARTS = ("train", "valid", "heldout")
MIN_SHARED = 80
"""Characters of a paragraph from which on it may not be in both parts."""


@dataclass(frozen=True)
class Corpus:
    """The texts of one source: its `PARTS`, paragraphs separated by line feeds, texts by a blank line."""

    name: str
    train: str
    valid: str
    heldout: str


def split(name: str, documents: Documents) -> Corpus:
    """Split a source's texts. Raises TritapeError when the parts overlap or the novels' held-out text differs."""
    if name == "austen":
        parts = [_novel(novel, start) for novel, start in zip(documents, AUSTEN_HELD_OUT, strict=True)]
        train = "\n\n".join("\n".join(first) for first, _, _ in parts)
        valid = "\n".join("\n".join(second) for _, second, _ in parts) + "\n"
        heldout = "\n".join("\n".join(third) for _, _, third in parts) + "\n"
        found = hashlib.sha256(heldout.encode()).hexdigest()
        if found != AUSTEN_HELD_OUT_SHA256:
            raise TritapeError(
                f"source austen: SHA-256 of the held-out text must be {AUSTEN_HELD_OUT_SHA256}, not {found}; "
                "fetch the package again"
            )
        corpus = Corpus(name, train, valid, heldout)
    else:
        text = "\n\n".join("\n".join(document) for document in documents)
        first = text.index("\n", int(len(text) * (1 - OTHER_HELD_OUT - OTHER_VALID))) + 1
        second = text.index("\n", int(len(text) * (1 - OTHER_HELD_OUT))) + 1
        corpus = Corpus(name, text[:first], text[first:second], text[second:])
    if name == "austen" and (common := _common_paragraphs(corpus)):
        raise TritapeError(
            f"source {name}: the parts must not share a paragraph, not {min(common)!r:.60}; move the cut"
        )
    return corpus


def fetch_corpus(names: list[str], folder: Path, downloads: Path) -> dict[str, Any]:
    """Fetch the sources and write NAME.PART.txt for the three parts and corpus.json into `folder`; return the manifest.

    Raises TritapeError for an unknown source, a failed download or a wrong hash.
    """
    for name in names:
        if name not in SOURCES:
            raise TritapeError(f"source must be one of {', '.join(SOURCES)}, not {name!r}; correct the name")
    folder.mkdir(parents=True, exist_ok=True)
    manifest: dict[str, Any] = {}
    for name in names:
        source = SOURCES[name]
        corpus = split(name, source.read(source.fetch(downloads)))
        entry: dict[str, Any] = {"about": source.about, "licence": source.licence, "file": source.file}
        entry |= {"sha256": source.sha256, "client": " ".join(source.client)}
        for part in PARTS:
            data = getattr(corpus, part).encode()
            with replacing(folder / f"{name}.{part}.txt") as stream:
                stream.write(data)
            entry[part] = {"bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()}
        manifest[name] = entry
    with replacing(folder / "corpus.json") as stream:
        stream.write((json.dumps(manifest, indent=1) + "\n").encode())
    return manifest


def _novel(novel: list[str], start: str) -> tuple[list[str], list[str], list[str]]:
    """The three parts of a novel whose held-out part begins with `start`; validation begins at a paragraph too."""
    ends = np.cumsum([len(paragraph) + 1 for paragraph in novel])
    for index, paragraph in enumerate(novel):
        if paragraph.startswith(start):
            before = int(ends[index - 1]) if index else 0
            first = min(int(np.searchsorted(ends, before - AUSTEN_VALID * ends[-1])) + 1, index)
            return novel[:first], novel[first:index], novel[index:]
    raise TritapeError(f"source austen: a paragraph must start with {start!r:.60}, not none; fetch the package again")


def _common_paragraphs(corpus: Corpus) -> set[str]:
    """Paragraphs of more than `MIN_SHARED` characters that are in two parts."""
    parts = [
        {paragraph for paragraph in part.split("\n") if len(paragraph) > MIN_SHARED}
        for part in (corpus.train, corpus.valid, corpus.heldout)
    ]
    return parts[0] & parts[1] | parts[0] & parts[2] | parts[1] & parts[2]
