"""`make bitstreams`: every board's archive into bitstreams/, and the table of what they are into its README."""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

from tritape.base.errors import TritapeError
from tritape.base.files import replacing
from tritape.base.run import StepError
from tritape.rtl_gen.archive import FOLDER, MAX_BYTES, STALE, outdated, read_archive
from tritape.rtl_gen.boards import AnyBoard, board, boards
from tritape.rtl_gen.build import Check, build
from tritape.sim.netlist.verify import brief

HEAD = """\
# Bitstreams

This folder holds a finished archive for each board. An archive is a zip file with the bitstream and `manifest.json`,
which says what the bitstream was made from. Load one with `tritape program BOARD bitstreams/BOARD.zip`. Boards that
need their vendor's tool have a complete project in place of a bitstream (state `generated, not routed`). An archive for
another version of the host protocol or of the tape has the state `to be built again`: its figures are those of that
version, and `tritape program` refuses it; run `tritape build BOARD`.

`make bitstreams` builds all archives with open tools and writes this table. MHz is the clock of the board; Fmax is
the highest clock after place and route. LUT, FF, BRAM and DSP are cells of the device, KiB is the size of the
archive, configuration is the hash that the device reports to the host; verified says what of the board wrote the
golden model's text in simulation (`tritape verify`). No figure here was measured on a board.

"""

COLUMNS = (
    "board", "device", "state", "MHz", "Fmax", "LUT", "FF", "BRAM", "DSP", "KiB", "configuration", "revision", "verified",
)  # fmt: skip


JOBS = 2
"""Boards that are built at the same time."""


def main(arguments: Sequence[str]) -> int:
    """Build the boards that are named, or all; a board that fails does not stop the others. Returns the exit status."""
    parser = argparse.ArgumentParser(prog="python -m tritape.cli.bitstreams", description=__doc__)
    parser.add_argument(
        "boards", nargs="*", metavar="BOARD", help="as `tritape boards` lists them; all if none is named"
    )
    parser.add_argument("--no-verify", action="store_true", help="leave out the run of each netlist")
    given = parser.parse_args(arguments)
    check = None if given.no_verify else brief
    try:
        chosen = [board(name).name for name in given.boards] or [*boards()]
    except TritapeError as error:
        parser.error(str(error))
    failed = []
    with ProcessPoolExecutor(JOBS) as pool:
        for name, done in zip(chosen, pool.map(partial(attempt, check=check), chosen)):
            if not done:
                failed.append(name)
            write_readme(FOLDER)
    print(f"failed: {', '.join(failed)}" if failed else "all built")
    return 1 if failed else 0


def attempt(name: str, check: Check | None = brief) -> bool:
    """Build one board, and say how it went."""
    started = time.monotonic()
    try:
        line = build_into(board(name), FOLDER, check)
    except TritapeError as error:
        line = f"FAILED {error}"
        if isinstance(error, StepError):
            line = f"{error.tail}\n{line}"
    print(f"{name}: {line}; {time.monotonic() - started:.0f} s", flush=True)
    return "FAILED" not in line


def build_into(made: AnyBoard, folder: Path, check: Check | None = brief) -> str:
    """Build one board and keep its archive only; returns a line about it.

    Raises `TritapeError` when the archive is too large for the repository, besides the errors of `build`.
    """

    def tell(number: int, total: int, step: str, detail: str) -> None:
        print(f"{made.name}: [{number}/{total}] {step} {detail}".rstrip(), flush=True)

    with tempfile.TemporaryDirectory() as work:
        result = build(made, Path(work), seeds=8, check=check, progress=tell)
        content = Path(result.archive).read_bytes()
    if len(content) > MAX_BYTES:
        raise TritapeError(f"{made.name}: archive must be at most {MAX_BYTES} bytes, not {len(content)}; leave it out")
    with replacing(folder / f"{made.name}.zip") as stream:
        stream.write(content)
    if result.fmax_mhz is None:
        return f"project for {result.clock_mhz:g} MHz"
    return f"{result.clock_mhz:g} MHz, Fmax {result.fmax_mhz} MHz, {result.luts} LUTs, {result.brams} block RAMs"


def write_readme(folder: Path) -> None:
    """README.md in `folder`, with a row for each archive there."""
    rows = [row(read_archive(path)[0], path.stat().st_size) for path in sorted(folder.glob("*.zip"))]
    lines = [f"| {' | '.join(COLUMNS)} |", f"|{'---|' * 3}{'---:|' * 7}{'---|' * 3}"]
    lines += [f"| {' | '.join(cells)} |" for cells in rows]
    with replacing(folder / "README.md") as stream:
        stream.write((HEAD + "\n".join(lines) + "\n").encode())


def row(about: dict[str, Any], size: int) -> list[str]:
    """Cells of one manifest, in the order of `COLUMNS`."""
    numbers = [about.get(name) for name in ("fmax_mhz", "luts", "ffs", "brams", "dsps")]
    return [
        about["board"],
        about["device"],
        STALE if outdated(about) else about["state"],
        f"{about['clock_hz'] / 1e6:g}",
        *("" if number is None else f"{number:,}" for number in numbers),
        f"{size / 1024:.0f}",
        f"`{about['configuration_hash']}`",
        f"`{about['git_revision']}`",
        about.get("verified", {}).get("level", ""),
    ]


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
