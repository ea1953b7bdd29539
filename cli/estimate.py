"""`tritape estimate`: a design point as numbers."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from tritape.base.errors import TritapeError
from tritape.cli import app
from tritape.cli.common import report
from tritape.cli.model import Code, Groups, JsonFile
from tritape.cli.rtl import DEFAULT, Engines, Fillers, Serial
from tritape.hw.config import Config
from tritape.model.config import ModelConfig
from tritape.model.data import embedded_models
from tritape.rtl_gen.estimate import PUBLISHED, estimate_tokens

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
    code: Code = DEFAULT.code,
    bandwidth: Annotated[float | None, typer.Option(help="Memory, bytes a second (default: E G a cycle).")] = None,
    read_ahead: ReadAhead = 0.0,
    latency: Latency = 0.0,
    clock: Annotated[float, typer.Option(help="Clock of the engine, Hz.")] = 80e6,
    json_file: JsonFile = None,
) -> None:
    """Cycles, tape, area and tokens per second of a model on an engine with limits just for it. Cycle model, no synthesis."""
    shape = model_shape(model)
    check_memory(clock, bandwidth, read_ahead, latency)
    limits = Config.for_model(shape, groups, tables_per_filler, engines, serial=serial, batch=batch, code=code)
    config = limits.limited_to(shape)
    point = {
        "model": model,
        "code": code,
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
