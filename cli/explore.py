"""`tritape explore`: a design space by the cycle model, its best points by synthesis and routing, on Dask."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from tritape.base.errors import TritapeError
from tritape.base.extras import require
from tritape.cli import app
from tritape.cli.common import console, left_out, out, output_file, wide, write_json
from tritape.cli.estimate import model_shape
from tritape.cli.model import JsonFile

SUFFIXES = (".png", ".svg")
SHOWN = 16
"""Rows of the front that are printed, a part."""


def _picture(path: Path | None) -> Path | None:
    if path is not None:
        require("plots", "matplotlib")
    if path is not None and path.suffix not in SUFFIXES:
        raise TritapeError(f"{path}: plot must be a .png or .svg file, not {path.suffix!r}; name it so")
    return output_file(path)


@app.command()
def explore(
    context: typer.Context,
    space: Annotated[
        Path, typer.Argument(help="SPACE.toml: model, memory, and values of each axis (docs/explore.md).")
    ],
    output: Annotated[
        Path | None,
        typer.Option("-o", "--output", help="Results, which a later run goes on with (default: SPACE.results.jsonl)."),
    ] = None,
    synthesise: Annotated[int, typer.Option(help="Synthesise so many of the front, a part.")] = 0,
    route: Annotated[int, typer.Option(help="Place and route so many of the front, of ECP5 parts.")] = 0,
    scheduler: Annotated[
        str | None, typer.Option(help="Address of a Dask scheduler (default: processes on this machine).")
    ] = None,
    workers: Annotated[int | None, typer.Option(help="Processes on this machine (default: one a core).")] = None,
    plot: Annotated[
        Path | None,
        typer.Option(help="Tokens a second against LUTs, as a .png or .svg.", callback=_picture),
    ] = None,
    json_file: JsonFile = None,
) -> None:
    """Search engines, groups, slots, replicas, fillers, clocks and parts for a model and a memory; print the Pareto front."""
    from tritape.rtl_gen.explore.results import ResultFile
    from tritape.rtl_gen.explore.run import cluster
    from tritape.rtl_gen.explore.run import explore as run
    from tritape.rtl_gen.explore.space import AXES, read_space

    for name, count in (("synthesise", synthesise), ("route", route)):
        if count < 0:
            raise TritapeError(f"{name} must be 0 or more, not {count}; choose another")
    if workers is not None and workers < 1:
        raise TritapeError(f"workers must be at least 1, not {workers}; choose another")
    if scheduler is not None:
        left_out(context, "beside --scheduler, whose own they are", "workers")
    read = read_space(space, model_shape)
    path = space.with_suffix(".results.jsonl") if output is None else output
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    bar = Progress(*columns, console=console, transient=True, disable=not console.is_terminal)
    tasks: dict[str, Any] = {}

    def tell(stage: str, done: int, total: int) -> None:
        if stage not in tasks:
            tasks[stage] = bar.add_task(stage)
        bar.update(tasks[stage], completed=done, total=total)

    with ResultFile(path) as results:
        try:
            with bar:
                found = run(
                    read,
                    results,
                    lambda: cluster(scheduler, workers),
                    synthesise=synthesise,
                    route=route,
                    progress=tell,
                )
        except KeyboardInterrupt:
            out.print(f"Interrupted: {len(results.results):,} results are in {path}; run it again to go on.")
            raise typer.Exit(130) from None
    skipped = f"; {read.skipped:,} combinations cannot be built" if read.skipped else ""
    if json_file is not None:
        common = {name: value for name, value in read.points[0].items() if name not in AXES}
        points, front = (
            [{k: v for k, v in row.items() if k not in common} for row in some] for some in (found.rows, found.front)
        )
        write_json(
            json_file,
            {
                "space": read.name,
                "kind": "projected",
                **common,
                "skipped": read.skipped,
                "points": points,
                "front": front,
            },
        )
    out.print(f"{len(found.rows):,} points, {found.computed:,} results new, in {path}{skipped}")
    _show(read.name, found.front)
    for failure in found.failures:
        console.print(f"failed: {failure}")
    if plot is not None:
        from tritape.rtl_gen.report.plots import write_space

        write_space(found.rows, found.front, plot)
        out.print(str(plot))
    if found.failures:
        raise typer.Exit(1)


def _show(name: str, front: list[dict[str, Any]]) -> None:
    """The front as a table; LUTs are estimated but where synthesis or routing is named."""
    table = Table(title=f"{name}: Pareto front of tokens/s (projected) against LUTs", title_justify="left")
    for column in (
        "part",
        "E",
        "G",
        "F",
        "T",
        "R",
        "MHz",
        "tokens/s",
        "roofline",
        "LUTs",
        "block RAM",
        "DSP",
        "limited by",
    ):
        table.add_column(column, justify="left" if column in ("part", "limited by") else "right", overflow="fold")
    shown = [row for name in dict.fromkeys(row["part"] for row in front) for row in _of(front, name)[:SHOWN]]
    for row in shown:
        table.add_row(
            row["part"], *(str(row[axis]) for axis in ("engines", "groups", "tables_per_filler", "batch", "replicas")),
            f"{row['clock'] / 1e6:g}", f"{row['tokens_per_second']:,.1f}", f"{row['roofline_fraction']:.3f}",
            f"{row['luts']:,}", f"{row['brams']:,}", f"{row['dsps']:,}", row["limited_by"],
        )  # fmt: skip
        for kind in ("synthesised", "routed"):
            if kind in row:
                made = row[kind]
                cells = (f"{made[name]:,}" for name in ("luts", "brams", "dsps"))
                table.add_row(
                    f"  {kind}", *[""] * 5, f"{made['fmax_mhz']:g}" if "fmax_mhz" in made else "", "", "", *cells
                )
    wide(130).print(table)
    if len(shown) < len(front):
        out.print(f"and {len(front) - len(shown)} slower ones on the front; --json FILE has all points")


def _of(front: list[dict[str, Any]], name: str) -> list[dict[str, Any]]:
    return [row for row in front if row["part"] == name]
