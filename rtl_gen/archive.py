"""The archive of a build: a bitstream and a manifest of what it is and what it was made from, in one zip file."""

from __future__ import annotations

import io
import json
import zipfile
import zlib
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from tritape.base.errors import TritapeError
from tritape.base.files import replacing
from tritape.base.package import PACKAGE, git_revision
from tritape.hw.link.commands import PROTOCOL_VERSION
from tritape.model.tape.layout import VERSION
from tritape.rtl_gen.boards import AnyBoard

FORMAT = 1
"""Version of the manifest."""
FOLDER = PACKAGE / "bitstreams"
"""Archives that come with the package."""
MAX_BYTES = 1 << 20
"""Largest archive that belongs into the repository."""
ROUTED = "routed"
GENERATED = "generated, not routed"
NOT_BUILT = "not built"
STALE = "to be built again"
"""Made for another version of the host protocol or of the tape, so this host could not run it."""
SPOKEN = {"protocol_version": PROTOCOL_VERSION, "tape_version": VERSION}
"""What a manifest must say for this host to run its device."""
MAX_CONTENT = 1 << 26
"""Bytes of the largest file in an archive: no bitstream has so many, and what says so is not unpacked."""
_BROKEN = (
    *(zipfile.BadZipFile, zlib.error, KeyError, EOFError, ValueError, TypeError, OSError),
    *(NotImplementedError, RuntimeError),  # zipfile's words for a compression that it does not know, and for encryption
)
_DATE = (1980, 1, 1, 0, 0, 0)  # equal content gives equal bytes
_REQUIRED = ("format", "board", "bitstream", "crc32", "configuration_hash", "state")


def manifest(
    board: AnyBoard, files: Mapping[str, bytes], bitstream: str, versions: dict[str, str], **numbers: Any
) -> dict[str, Any]:
    """What an archive says about itself; `numbers` are the results of routing, none for a project that was not routed."""
    return {
        "format": FORMAT,
        "board": board.name,
        "title": board.title,
        "device": board.device,
        "state": ROUTED if numbers else GENERATED,
        "bitstream": bitstream,
        "bytes": len(files[bitstream]),
        "crc32": f"{zlib.crc32(files[bitstream]):08x}",
        "git_revision": git_revision(),
        "tools": versions,
        **SPOKEN,
        "configuration_hash": f"{board.config.hash64():016x}",
        "limits": asdict(board.config),
        "memory_words": board.memory_words,
        "clock_hz": board.clock_hz,
        "baud": board.baud,
        "link": board.link,
        **numbers,
    }


def write_archive(path: Path, about: dict[str, Any], files: Mapping[str, bytes]) -> None:
    """Write `manifest.json` and `files` to a zip file at `path`, whole or not at all; equal content gives equal bytes."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED, compresslevel=9) as archive:
        for name, content in {"manifest.json": (json.dumps(about, indent=2) + "\n").encode(), **files}.items():
            entry = zipfile.ZipInfo(name, _DATE)
            entry.compress_type = zipfile.ZIP_DEFLATED
            entry.external_attr = 0o644 << 16
            archive.writestr(entry, content)
    with replacing(path) as stream:
        stream.write(buffer.getvalue())


def read_archive(path: Path) -> tuple[dict[str, Any], bytes]:
    """Manifest and bitstream of an archive.

    Raises `TritapeError` naming the file when it is no archive, is truncated, or its bitstream is not the one that the
    manifest describes.
    """
    path = Path(path)
    cure = "build or download it again"
    try:
        with zipfile.ZipFile(path) as archive:
            large = [entry.filename for entry in archive.infolist() if entry.file_size > MAX_CONTENT]
            if large:
                raise TritapeError(f"{path}: {large[0]} must have at most {MAX_CONTENT} bytes, not more; {cure}")
            about = json.loads(archive.read("manifest.json"))
            missing = [key for key in _REQUIRED if key not in about]
            if missing or about["format"] != FORMAT:
                wrong = f"one without {', '.join(missing)}" if missing else f"format {about['format']!r}"
                raise TritapeError(f"{path}: manifest must be of format {FORMAT}, not {wrong}; {cure}")
            content = archive.read(about["bitstream"])
    except FileNotFoundError:
        raise TritapeError(f"{path}: archive must exist, not be missing; run: tritape build BOARD") from None
    except _BROKEN as error:
        if isinstance(error, TritapeError):
            raise
        raise TritapeError(
            f"{path}: archive must be a zip file of manifest and bitstream, not {type(error).__name__}; {cure}"
        ) from error
    crc = f"{zlib.crc32(content):08x}"
    if crc != about["crc32"]:
        raise TritapeError(f"{path}: CRC-32 of {about['bitstream']} must be {about['crc32']}, not {crc}; {cure}")
    return about, content


def outdated(about: Mapping[str, Any]) -> str | None:
    """Which version of a manifest is not `SPOKEN` here; None if this host can run its device."""
    return next((name for name, version in SPOKEN.items() if about.get(name) != version), None)


def state(board: AnyBoard, folder: Path = FOLDER) -> str:
    """`ROUTED` or `GENERATED` as the archive in `folder` says, `STALE` for one whose device this host could not speak to,
    `NOT_BUILT` without one for this configuration."""
    path = folder / f"{board.name}.zip"
    if not path.exists():
        return NOT_BUILT
    about, _ = read_archive(path)
    if about["configuration_hash"] != f"{board.config.hash64():016x}":
        return NOT_BUILT
    return STALE if outdated(about) else str(about["state"])
