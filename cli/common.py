"""What the command groups share: progress bars, JSON output, and options that name files and models."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from tritape.base.errors import TritapeError
from tritape.base.files import check_output, replacing
from tritape.base.json_text import json_text
from tritape.model.open import OpenModel, find_model, open_model

IgnoreEOS = Annotated[bool, typer.Option("--ignore-eos", help="Go on behind a token that ends a text.")]

console = Console(stderr=True, markup=False, emoji=False)
"""Progress and remarks go to stderr; results go to stdout. Texts are shown as they are: a path may be `my[v2] :x: model`."""
out = Console(soft_wrap=True, markup=False, emoji=False)
"""For results. Where a file that a command writes is the standard output (`output_file`), it is stderr too."""


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


def wide(columns: int) -> Console:
    """`out` with so many columns whatever the terminal has, for tables."""
    return Console(width=columns, stderr=out.stderr, markup=False, emoji=False)


def write(text: str) -> None:
    """Show text of a model as it comes, where results go."""
    out.file.write(text)
    out.file.flush()


def model_path(path: Path | None) -> Path | None:
    """Callback of options that name a model: where `tritape.model.open.find_model` finds it; None stays."""
    return None if path is None else find_model(path)


def left_out(context: typer.Context, why: str, *names: str) -> None:
    """Raise TritapeError for options and arguments (by their Python names) that were given where they would do nothing; `why`
    follows "must be left out"."""
    for parameter in context.command.params:
        source = context.get_parameter_source(parameter.name or "")
        if parameter.name in names and source is not None and source.name != "DEFAULT":
            raise TritapeError(
                f"{parameter.opts[0]} must be left out {why}, not {context.params[parameter.name]!r}; take it away"
            )


def opened(path: Path | None) -> OpenModel:
    """The model at a path, or the default one; a checkpoint is calibrated, with a progress bar."""
    with progress("calibrating") as update:
        model = open_model(path, update)
        if model.tape is None:
            _ = model.quantised
    return model


def output_file(path: Path | None) -> Path | None:
    """`path`, if a file can be made there: checked before the work, not after it. Callback of options. Raises
    TritapeError as `check_output`. A file that is the standard output gets it alone: tables then go to stderr."""
    if path is not None and check_output(path)[0] == 1:
        out.stderr = True
    return path


def write_json(path: Path, result: Any) -> None:
    """Write JSON, all of it or nothing. Raises TritapeError as `output_file`."""
    with replacing(path) as stream:
        stream.write((json_text(result, 2) + "\n").encode())


def _show(value: Any) -> str:
    if isinstance(value, bool) or value is None:
        return str(value)
    if isinstance(value, float):
        return f"{value:.4g}" if abs(value) < 1e4 else f"{value:,.0f}"
    return f"{value:,}" if isinstance(value, int) else str(value)
