"""`tritape estimate` and `choose`: a design point as numbers, and the design point for a model, a memory and a part."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from tritape.base.errors import TritapeError
from tritape.cli import app
from tritape.cli.common import out, progress, report, write_json
from tritape.cli.model import Groups, JsonFile
from tritape.cli.rtl import DEFAULT, Engines, Fillers, Serial
from tritape.hw.config import Config
from tritape.hw.link.commands import DATA_BYTES
from tritape.model.config import ModelConfig
from tritape.model.data import embedded_models
from tritape.rtl_gen.choose import choose as choose_point
from tritape.rtl_gen.choose import memory_defaults
from tritape.rtl_gen.estimate import PUBLISHED, estimate_tokens
from tritape.rtl_gen.parts import PARTS
from tritape.rtl_gen.parts import part as part_of

Batch = Annotated[int, typer.Option(help="Tokens that one pass over the tape serves.")]
ReadAhead = Annotated[float, typer.Option(help="Bytes that the memory reads ahead while the engine waits.")]
Latency = Annotated[float, typer.Option(help="Cycles from a request to the memory's first word.")]
NAMES = (*PUBLISHED, *embedded_models())
"""Of published shapes and embedded models."""
Model = Annotated[str, typer.Argument(help=f"Checkpoint folder, config.json, or a name: {', '.join(NAMES)}.")]


def model_shape(model: str) -> ModelConfig:
    """A published shape by name, else that of a checkpoint folder or a config.json, else of an embedded model by name.

    Raises `TritapeError` for none of them.
    """
    if model in PUBLISHED:
        return PUBLISHED[model]
    path = Path(model)
    if not path.is_file():
        path /= "config.json"
    if not path.is_file() and model in embedded_models():
        path = embedded_models()[model] / "config.json"
    if not path.is_file():
        known = ", ".join(NAMES)
        raise TritapeError(f"model must be a checkpoint folder or a name, not {model!r}; names are {known}")
    return ModelConfig.from_file(path)


def check_memory(clock: float, bandwidth: float | None, read_ahead: float, latency: float) -> None:
    """Raises `TritapeError` for numbers of a memory that cannot be."""
    if not clock > 0 or (bandwidth is not None and not bandwidth > 0):
        raise TritapeError(
            f"clock and bandwidth must be positive, not {clock!r} and {bandwidth!r}; give Hz and bytes a second"
        )
    if not read_ahead >= 0 or not latency >= 0:
        raise TritapeError(
            f"read-ahead and latency must not be negative, not {read_ahead!r} and {latency!r}; give bytes and cycles"
        )


@app.command()
def estimate(
    model: Model,
    groups: Groups = DEFAULT.groups,
    tables_per_filler: Fillers = DEFAULT.tables_per_filler,
    engines: Engines = DEFAULT.engines,
    batch: Batch = 1,
    serial: Serial = False,
    bandwidth: Annotated[float | None, typer.Option(help="Memory, bytes a second (default: E G a cycle).")] = None,
    read_ahead: ReadAhead = 0.0,
    latency: Latency = 0.0,
    clock: Annotated[float, typer.Option(help="Clock of the engine, Hz.")] = 80e6,
    json_file: JsonFile = None,
) -> None:
    """Cycles, tape, area and tokens per second of a model on an engine with limits just for it. Cycle model, no synthesis."""
    shape = model_shape(model)
    check_memory(clock, bandwidth, read_ahead, latency)
    limits = Config.for_model(shape, groups, tables_per_filler, engines, serial=serial, batch=batch)
    config = limits.limited_to(shape)
    point = {
        "model": model,
        "engines": engines,
        "groups": groups,
        "tables_per_filler": tables_per_filler,
        "batch": batch,
        "bandwidth": bandwidth,
        "read_ahead_bytes": read_ahead,
        "latency_cycles": latency,
    }
    result = point | estimate_tokens(shape, config, clock, bandwidth, read_ahead, latency)
    report(result, json_file, f"{model} (cycle model; rates are projected)")


@app.command()
def choose(
    model: Model,
    bandwidth: Annotated[float, typer.Option(help="Memory, bytes a second.")],
    part: Annotated[str, typer.Option(help=f"{', '.join(PARTS)}.")],
    clock: Annotated[float, typer.Option(help="Clock of the engine, Hz.")],
    batch: Batch = 1,
    read_ahead: Annotated[
        float | None,
        typer.Option(help="Bytes that the memory reads ahead (default: 512 lines of each port, as the backends do)."),
    ] = None,
    latency: Annotated[
        float | None, typer.Option(help="Cycles from a request to the first word (default: 100).")
    ] = None,
    others: Annotated[int, typer.Option(help="Runners-up to show.")] = 6,
    json_file: JsonFile = None,
) -> None:
    """The engines (E) and groups (G) for a model, a memory and a part, and why. By cycle model and footprint; no synthesis."""
    shape = model_shape(model)
    check_memory(clock, bandwidth, read_ahead or 0.0, latency or 0.0)
    target = part_of(part)
    with progress("estimating") as update:
        chosen = choose_point(shape, target, clock, bandwidth, read_ahead, latency, batch, update)
    ahead, first = memory_defaults(clock, bandwidth)
    ahead, first = ahead if read_ahead is None else read_ahead, first if latency is None else latency
    best = chosen.best
    command = (
        f"tritape estimate {model} --engines {best.config.engines} --groups {best.config.groups} "
        f"--tables-per-filler {best.config.tables_per_filler} --batch {batch} --clock {clock:.12g} --bandwidth {bandwidth:.12g} "
        f"--read-ahead {ahead:.12g} --latency {first:.12g}"
    )
    table = Table(
        title=f"{model}, {bandwidth / 1e9:g} GB/s, {clock / 1e6:g} MHz, {target.title} (cycle model; rates are projected)",
        title_justify="left",
    )
    for name in ("", "tokens/s", "roofline", f"LUT{target.lut_inputs}", "block RAM", "DSP", ""):
        table.add_column(name, justify="right" if name else "left")
    for made, why in [(best, f"chosen; limited by {chosen.why}"), *chosen.others[:others]]:
        table.add_row(
            made.name, f"{made.rate:,.1f}", f"{made.roofline:.3f}",
            *(f"{count:,} ({made.share[what]:.0%})" for what, count in asdict(made.cost).items()), why,
        )  # fmt: skip
    Console(width=140, stderr=out.stderr).print(table)
    out.print(f"{chosen.points} points estimated; of the chosen one: {command}")
    if best.config.word_bytes > DATA_BYTES and batch == 1:
        out.print(
            f"A word of {best.config.word_bytes} bytes does not fit in a frame of the host link ({DATA_BYTES}): not buildable yet"
        )
    if json_file is not None:
        write_json(
            json_file,
            {
                "model": model, "part": part, "clock_hz": clock, "bandwidth": bandwidth, "batch": batch, "kind": "projected",
                "chosen": best.as_dict(), "why": chosen.why, "command": command, "points": chosen.points,
                "others": [made.as_dict() | {"why": why} for made, why in chosen.others[:others]],
                "larger": chosen.larger and chosen.larger.as_dict(),
            },
        )  # fmt: skip
