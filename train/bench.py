"""What the two measurements share: the released shapes, the machine in words, JSON results as they come."""

from __future__ import annotations

import platform
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import typer

from tritape.base.errors import TritapeError
from tritape.base.files import replacing
from tritape.base.json_text import json_text
from tritape.train.plain import HGRNBitConfig

SHAPES = {
    "370M": HGRNBitConfig(32000, 1024, 24, 2816),
    "1.3B": HGRNBitConfig(32000, 2048, 24, 5632),
    "2.7B": HGRNBitConfig(32000, 2560, 32, 6912),
}


class Results:
    """Figures by name, written whole to `path` (if any) after each one."""

    def __init__(self, path: Path | None) -> None:
        self.path = path
        self.values: dict[str, Any] = {"command": _command(), **machine()}

    def add(self, name: str, value: Any) -> None:
        """Keep and print one figure or a table of them."""
        self.values[name] = value
        print(f"{name}: {json_text(value)}", flush=True)
        if self.path is not None:
            with replacing(self.path) as stream:
                stream.write((json_text(self.values, 1) + "\n").encode())


def machine() -> dict[str, str]:
    """Card and versions. Raises TritapeError without a GPU."""
    if not torch.cuda.is_available():
        raise TritapeError("device must be an NVIDIA GPU, not absent; run this measurement on a machine with one")
    import triton

    return {
        "card": torch.cuda.get_device_name(),
        "torch": torch.__version__,
        "triton": triton.__version__,
        "cuda": str(torch.version.cuda),
        "python": platform.python_version(),
    }


def milliseconds(function: Any, repeats: int, warm: int = 2) -> list[float]:
    """Times of `repeats` calls after `warm` others, by device events, sorted."""
    for _ in range(warm):
        function()
    times = []
    for _ in range(repeats):
        start, stop = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
        start.record()
        function()
        stop.record()
        stop.synchronize()
        times.append(start.elapsed_time(stop))
    return sorted(times)


def run(main: Callable[..., None]) -> None:
    """Run a measurement's command line; wrong input ends with exit status 2 and one line on stderr."""
    try:
        typer.run(main)
    except TritapeError as error:
        sys.stderr.write(f"{error}\n")
        sys.exit(2)


def _command() -> str:
    """The command line, with the names of files and not where they lie on this machine."""
    words = [Path(word).name if "/" in word else word for word in sys.argv[1:]]
    return " ".join(["python -m", "tritape.train." + Path(sys.argv[0]).stem, *words])
