"""A corpus on disk: training text, held-out text and a manifest that says where every byte came from.

The held-out part of the novels is `heldout.txt` of the starter model, byte for byte: from a given paragraph near 95 %
of each novel to its end. So bits per byte of all models, old and new, compare. Other sources give their last 2 %.
A training text that shares a paragraph of more than 80 characters with the held-out text is refused.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tritape.model.errors import TritapeError
from tritape.model.files import replacing
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
MIN_SHARED = 80
"""Characters of a paragraph from which on it may not be in both parts."""


@dataclass(frozen=True)
class Corpus:
    """The texts of one source: `train` and `heldout`, paragraphs separated by line feeds, texts by a blank line."""

    name: str
    train: str
    heldout: str


def split(name: str, documents: Documents) -> Corpus:
    """Split a source's texts. Raises TritapeError when the parts overlap or the novels' held-out text differs."""
    if name == "austen":
        cuts = [_cut(novel, start) for novel, start in zip(documents, AUSTEN_HELD_OUT, strict=True)]
        parts = [(novel[:at], novel[at:]) for novel, at in zip(documents, cuts, strict=True)]
        train = "\n\n".join("\n".join(before) for before, _ in parts)
        heldout = "\n".join("\n".join(after) for _, after in parts) + "\n"
        found = hashlib.sha256(heldout.encode()).hexdigest()
        if found != AUSTEN_HELD_OUT_SHA256:
            raise TritapeError(
                f"source austen: SHA-256 of the held-out text must be {AUSTEN_HELD_OUT_SHA256}, not {found}; "
                "fetch the package again"
            )
        corpus = Corpus(name, train, heldout)
    else:
        text = "\n\n".join("\n".join(document) for document in documents)
        at = text.index("\n", int(len(text) * (1 - OTHER_HELD_OUT))) + 1
        corpus = Corpus(name, text[:at], text[at:])
    shared = {p for p in corpus.heldout.split("\n") if len(p) > MIN_SHARED}.intersection(corpus.train.split("\n"))
    if shared and name == "austen":
        raise TritapeError(
            f"source {name}: training text must be free of held-out paragraphs, not share {min(shared)!r:.60}; "
            "move the cut"
        )
    return corpus


def fetch_corpus(names: list[str], folder: Path, downloads: Path) -> dict[str, Any]:
    """Fetch the sources and write NAME.train.txt, NAME.heldout.txt and corpus.json into `folder`; return the manifest.

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
        for part, text in (("train", corpus.train), ("heldout", corpus.heldout)):
            data = text.encode()
            with replacing(folder / f"{name}.{part}.txt") as stream:
                stream.write(data)
            entry[part] = {"bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()}
        manifest[name] = entry
    with replacing(folder / "corpus.json") as stream:
        stream.write((json.dumps(manifest, indent=1) + "\n").encode())
    return manifest


def _cut(novel: list[str], start: str) -> int:
    for index, paragraph in enumerate(novel):
        if paragraph.startswith(start):
            return index
    raise TritapeError(f"source austen: a paragraph must start with {start!r:.60}, not none; fetch the package again")
