"""What the command groups share: progress bars, JSON output, and finding a model."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from tritape.base.errors import TritapeError
from tritape.base.files import replacing
from tritape.model.checkpoint import Checkpoint, load_checkpoint
from tritape.model.data import default_model_path, embedded_models

console = Console(stderr=True)
"""Progress and remarks go to stderr; results go to stdout."""
out = Console(soft_wrap=True)


def load_model(path: Path | None) -> Checkpoint:
    """The checkpoint at `path`, or the embedded default model."""
    return load_checkpoint(default_model_path() if path is None else path)


@contextmanager
def progress(what: str) -> Iterator[Callable[[int, int], None]]:
    """A progress bar on stderr; yields `update(done, total)`. Silent when stderr is no terminal."""
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as bar:
        task = bar.add_task(what, total=None)
        yield lambda done, total: bar.update(task, completed=done, total=total)


@contextmanager
def build_progress(what: str) -> Iterator[Callable[[str], None]]:
    """A progress bar for a build that reports lines such as `compiling 3/12`; yields `tell(line)`."""
    columns = (TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn())
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as bar:
        task = bar.add_task(what, total=None)

        def tell(line: str) -> None:
            step = re.search(r"(\d+)/(\d+)", line)
            completed, total = (int(step[1]), int(step[2])) if step else (0, None)
            bar.update(task, description=f"{what}: {line}", completed=completed, total=total)

        yield tell


def report(result: dict[str, Any], json_file: Path | None, title: str) -> None:
    """Print a result as a table, and write it as JSON when a file was asked for."""
    if json_file is not None:
        write_json(json_file, result)
    table = Table(title=title, title_justify="left", show_header=False, box=None, padding=(0, 2))
    table.add_column()
    table.add_column(justify="right")
    for key, value in result.items():
        if isinstance(value, dict):
            table.add_row(key, "")
            for name, entry in value.items():
                table.add_row(f"  {name}", _show(entry))
        else:
            table.add_row(key, _show(value))
    out.print(table)


def find_model_path(path: Path) -> Path | None:
    """`path`, or the folder of the embedded model of that name if there is nothing at `path`; None if neither is there."""
    return path if path.exists() else embedded_models().get(str(path))


def model_path(path: Path | None) -> Path | None:
    """As `find_model_path`, for a callback of options. Raises TritapeError for neither."""
    if path is None:
        return None
    found = find_model_path(path)
    if found is None:
        names = ", ".join(embedded_models())
        raise TritapeError(
            f"{path}: model must be a checkpoint folder, a tape or a name, not missing; names are {names}"
        )
    return found


def output_file(path: Path | None) -> Path | None:
    """`path`, if a file can be made there: checked before the work, not after it. Callback of options. Raises
    TritapeError when its folder does not exist or it is a folder itself."""
    if path is not None and not path.parent.is_dir():
        raise TritapeError(f"{path}: folder must exist, not be missing; create {path.parent}")
    if path is not None and path.is_dir():
        raise TritapeError(f"{path}: output must be a file, not a folder; add a file name")
    return path


def write_json(path: Path, result: Any) -> None:
    """Write JSON through a temporary file beside it. Raises TritapeError as `output_file`."""
    output_file(path)
    with replacing(path) as stream:
        stream.write(json.dumps(result, indent=2).encode() + b"\n")


def _show(value: Any) -> str:
    if isinstance(value, bool) or value is None:
        return str(value)
    if isinstance(value, float):
        return f"{value:.4g}" if abs(value) < 1e4 else f"{value:,.0f}"
    return f"{value:,}" if isinstance(value, int) else str(value)
