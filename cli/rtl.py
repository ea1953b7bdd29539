"""`tritape verilog` and `estimate`: the hardware as files and as numbers."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from tritape.cli import app
from tritape.cli.common import out, report
from tritape.cli.model import Groups, JsonFile
from tritape.hw.config import Config
from tritape.model.checkpoint import ModelConfig
from tritape.model.errors import TritapeError
from tritape.rtl_gen.estimate import PUBLISHED, estimate_tokens

DEFAULT = Config()
Fillers = Annotated[int, typer.Option(help="Tables that one filler serves in turn.")]
Engines = Annotated[int, typer.Option(help="Engines, each with a lane of the vector units; divides the groups.")]
Serial = Annotated[
    bool, typer.Option("--serial", help="The serial vector unit of small FPGAs instead of the pipelines.")
]


@app.command()
def verilog(
    output: Annotated[Path, typer.Option("-o", "--output", help="Folder to write to.")] = Path("out"),
    groups: Groups = DEFAULT.groups,
    tables_per_filler: Fillers = DEFAULT.tables_per_filler,
    engines: Engines = DEFAULT.engines,
    serial: Serial = False,
    lanes: Annotated[int, typer.Option(help="Tokens that one pass over the tape serves.")] = DEFAULT.tracks,
    max_hidden: Annotated[int, typer.Option(help="Largest hidden size.")] = DEFAULT.max_hidden,
    max_intermediate: Annotated[int, typer.Option(help="Largest intermediate size.")] = DEFAULT.max_intermediate,
    max_layers: Annotated[int, typer.Option(help="Most layers.")] = DEFAULT.max_layers,
    max_vocab: Annotated[int, typer.Option(help="Largest vocabulary.")] = DEFAULT.max_vocab,
    max_rows: Annotated[int, typer.Option(help="Rows a block.")] = DEFAULT.max_rows,
) -> None:
    """Write the accelerator as one Verilog file, its ports and counters as JSON and Markdown, and lint waivers."""
    from tritape.rtl_gen.verilog import write_verilog

    config = Config(
        groups=groups,
        tables_per_filler=tables_per_filler,
        engines=engines,
        max_hidden=max_hidden,
        max_intermediate=max_intermediate,
        max_layers=max_layers,
        max_vocab=max_vocab,
        max_rows=max_rows,
        serial=serial,
        tracks=lanes,
    )
    description = write_verilog(output, config, "tritape verilog")
    out.print(
        f"{output}: tritape.v, tritape.json, tritape.md, tritape.vlt; configuration {description['configuration_hash']}"
    )


@app.command()
def estimate(
    model: Annotated[str, typer.Argument(help=f"Checkpoint folder, or a shape: {', '.join(PUBLISHED)}.")],
    groups: Groups = DEFAULT.groups,
    tables_per_filler: Fillers = DEFAULT.tables_per_filler,
    engines: Engines = DEFAULT.engines,
    serial: Serial = False,
    bandwidth: Annotated[float | None, typer.Option(help="Memory, bytes a second (default: E G a cycle).")] = None,
    clock: Annotated[float, typer.Option(help="Clock of the engine, Hz.")] = 80e6,
    json_file: JsonFile = None,
) -> None:
    """Cycles, tape, memory and tokens per second of a model on an engine, from the cycle model. No synthesis."""
    if model not in PUBLISHED and not Path(model).is_dir():
        known = ", ".join(PUBLISHED)
        raise TritapeError(f"model must be a checkpoint folder or a shape, not {model!r}; shapes are {known}")
    shape = PUBLISHED.get(model) or ModelConfig.from_file(Path(model) / "config.json")
    config = Config.for_model(shape, groups, tables_per_filler, engines, serial=serial)
    if not clock > 0 or (bandwidth is not None and not bandwidth > 0):
        raise TritapeError(
            f"clock and bandwidth must be positive, not {clock!r} and {bandwidth!r}; give Hz and bytes a second"
        )
    report(estimate_tokens(shape, config, clock, bandwidth), json_file, f"{model} (cycle model; rates are projected)")
