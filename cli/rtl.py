"""`tritape verilog`, `estimate` and `perf`: the hardware as files, as numbers and in a measured run."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer

from tritape.cli import app
from tritape.cli.common import build_progress, out, progress, report
from tritape.cli.model import Groups, JsonFile
from tritape.hw.config import Config
from tritape.model.checkpoint import ModelConfig, random_checkpoint
from tritape.model.errors import TritapeError
from tritape.rtl_gen.estimate import PUBLISHED, estimate_tokens
from tritape.sim.toolchain import require_compiler

DEFAULT = Config()
Fillers = Annotated[int, typer.Option(help="Tables that one filler serves in turn.")]
Engines = Annotated[int, typer.Option(help="Engines, each with a lane of the vector units; divides the groups.")]
Serial = Annotated[bool, typer.Option("--serial", help="The serial vector unit of small FPGAs instead of the pipelines.")]


@app.command()
def verilog(
    output: Annotated[Path, typer.Option("-o", "--output", help="Folder to write to.")] = Path("out"),
    groups: Groups = DEFAULT.groups,
    tables_per_filler: Fillers = DEFAULT.tables_per_filler,
    engines: Engines = DEFAULT.engines,
    serial: Serial = False,
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


@app.command()
def perf(
    hidden: Annotated[int, typer.Option(help="Hidden size.")] = 1024,
    layers: Annotated[int, typer.Option(help="Layers.")] = 1,
    vocab: Annotated[int, typer.Option(help="Vocabulary.")] = 2048,
    intermediate: Annotated[int | None, typer.Option(help="Intermediate size (default: the published rule).")] = None,
    groups: Groups = DEFAULT.groups,
    tables_per_filler: Fillers = DEFAULT.tables_per_filler,
    engines: Engines = DEFAULT.engines,
    serial: Serial = False,
    tokens: Annotated[int, typer.Option(help="Tokens to run; the last one is measured.")] = 2,
    json_file: JsonFile = None,
) -> None:
    """Run a random model of a shape through the RTL with an ideal memory; compare with golden and cycle model."""
    from tritape.model.formats import quantise_model
    from tritape.sim.generate import Generator, Simulation

    if tokens < 2:
        raise TritapeError(f"tokens must be at least 2, not {tokens}; the first only fills the pipeline")
    if intermediate is None:
        intermediate = 256 * -(-int(hidden * 4 * 2 / 3) // 256)
    for name, size in (("vocab", vocab), ("hidden", hidden), ("layers", layers), ("intermediate", intermediate)):
        if size < 1:
            raise TritapeError(f"{name} must be at least 1, not {size}; choose another")
    shape = ModelConfig(vocab, hidden, layers, intermediate)
    config = Config.for_model(shape, groups, tables_per_filler, engines, serial=serial)
    require_compiler()
    ids = np.random.default_rng(0).integers(0, vocab, tokens).tolist()
    with progress("making a random model") as update:
        quantised = quantise_model(random_checkpoint(shape, seed=0), ids=[*ids, *range(min(6, vocab))], progress=update)
    with build_progress("building simulator") as tell:
        simulation = Simulation(config, progress=tell)
    with simulation, progress("simulating") as update:
        generator = Generator(simulation, quantised, groups, max_rows=config.max_rows, engines=engines)
        difference = None
        for done, token in enumerate(ids, 1):
            before = generator.device.counters()
            difference = difference or generator.feed(token).difference
            update(done, tokens)
        after = generator.device.counters()
    spent = {name: after[name] - before[name] for name in after}
    estimated = estimate_tokens(shape, config, 1.0, None)
    result: dict[str, Any] = {
        "shape": f"hidden {hidden}, intermediate {intermediate}, {layers} layers, vocabulary {vocab}",
        "groups": groups,
        "engines": engines,
        "measured_cycles": spent["running"],
        "estimated_cycles": estimated["cycles_per_token"],
        "estimate_error": estimated["cycles_per_token"] / spent["running"] - 1,
        "ideal_cycles": estimated["ideal_cycles"],
        "roofline_fraction": estimated["ideal_cycles"] / spent["running"],
        "bit_exact": difference is None,
        "difference": difference,
        "streaming_cycles": spent["streaming"],
        "stall_cycles": {n.removeprefix("stall_"): v for n, v in spent.items() if n.startswith("stall")},
        "crc_errors": spent["crc_errors"],
    }
    report(result, json_file, "measured in RTL simulation, ideal memory")
    if difference is not None:
        raise typer.Exit(1)
