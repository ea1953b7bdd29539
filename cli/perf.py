"""`tritape perf`: a random model of a shape in the RTL, with a memory, measured against the golden and the cycle model."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer

from tritape.base.errors import TritapeError
from tritape.base.simulators import require_compiler
from tritape.cli import app
from tritape.cli.common import build_progress, left_out, progress, report
from tritape.cli.model import Code, Groups, JsonFile
from tritape.cli.rtl import DEFAULT, Engines, Fillers, Serial
from tritape.hw.config import MAX_BATCH, Config
from tritape.model.checkpoint import random_checkpoint
from tritape.model.codes import SPARSE4
from tritape.model.config import ModelConfig
from tritape.model.tape.layout import image_words
from tritape.rtl_gen.estimate import PUBLISHED
from tritape.sim.fast.memory import KINDS, Memory

CLOCKS = {"ideal": 80e6, "axi": 250e6, "litedram-sdr": 100e6, "litedram-ddr3": 75e6, "qspi": 24e6}
"""Of the accelerator, Hz, where none is given: rates are projected at it."""
PREFILLED = 6  # tokens that calibrate beside those that run


def _shape(
    name: str | None, hidden: int, layers: int | None, vocab: int | None, intermediate: int | None
) -> tuple[str, ModelConfig]:
    """A published shape or a config.json, or the sizes one by one; layers and vocabulary count in both cases."""
    if name is not None:
        if name not in PUBLISHED and not Path(name).is_file():
            known = ", ".join(PUBLISHED)
            raise TritapeError(f"shape must be a config.json or one of {known}, not {name!r}; choose one of them")
        shape = PUBLISHED.get(name) or ModelConfig.from_file(Path(name))
        shape = replace(
            shape,
            num_hidden_layers=shape.num_hidden_layers if layers is None else layers,
            vocab_size=shape.vocab_size if vocab is None else vocab,
        )
        for what, size in (("layers", shape.num_hidden_layers), ("vocab", shape.vocab_size)):
            if size < 1:
                raise TritapeError(f"{what} must be at least 1, not {size}; choose another")
    else:
        if intermediate is None:
            intermediate = 256 * -(-int(hidden * 4 * 2 / 3) // 256)
        layers, vocab = 1 if layers is None else layers, 2048 if vocab is None else vocab
        for what, size in (("vocab", vocab), ("hidden", hidden), ("layers", layers), ("intermediate", intermediate)):
            if size < 1:
                raise TritapeError(f"{what} must be at least 1, not {size}; choose another")
        shape = ModelConfig(vocab, hidden, layers, intermediate)
    text = f"hidden {shape.hidden_size}, intermediate {shape.intermediate_size}, {shape.num_hidden_layers} layers"
    return f"{text}, vocabulary {shape.vocab_size}", shape


@app.command()
def perf(
    context: typer.Context,
    hidden: Annotated[int, typer.Option(help="Hidden size.")] = 1024,
    layers: Annotated[int | None, typer.Option(help="Layers (default: the shape's, else 1).")] = None,
    vocab: Annotated[int | None, typer.Option(help="Vocabulary (default: the shape's, else 2048).")] = None,
    intermediate: Annotated[int | None, typer.Option(help="Intermediate size (default: the published rule).")] = None,
    shape: Annotated[
        str | None, typer.Option(help=f"{', '.join(PUBLISHED)} or a config.json, instead of sizes.")
    ] = None,
    groups: Groups = DEFAULT.groups,
    tables_per_filler: Fillers = DEFAULT.tables_per_filler,
    engines: Engines = DEFAULT.engines,
    serial: Serial = False,
    code: Code = DEFAULT.code,
    batch: Annotated[int, typer.Option(help="Tokens that one pass over the tape serves.")] = 1,
    memory: Annotated[str, typer.Option(help=f"{', '.join(KINDS)}.")] = "ideal",
    ports: Annotated[int, typer.Option(help="AXI ports, a power of two.")] = 1,
    port_bits: Annotated[int, typer.Option(help="Bits of an AXI port.")] = 128,
    latency: Annotated[int, typer.Option(help="AXI: cycles from an address to its data.")] = 80,
    jitter: Annotated[int, typer.Option(help="AXI: up to so many cycles more, at random.")] = 31,
    bandwidth: Annotated[
        float | None, typer.Option(help="AXI: bytes a second of all ports (default: all they carry).")
    ] = None,
    clock: Annotated[float | None, typer.Option(help="Clock, Hz, that rates are projected at.")] = None,
    tokens: Annotated[int, typer.Option(help="Tokens of each slot to run; the last one is measured.")] = 2,
    json_file: JsonFile = None,
) -> None:
    """Run a random model of a shape through the RTL with a memory; compare with golden and cycle model."""
    from tritape.model.formats import quantise_model
    from tritape.sim.generate import Simulation
    from tritape.sim.perf import measure

    if tokens < 2:
        raise TritapeError(f"tokens must be at least 2, not {tokens}; the first only fills the pipeline")
    if shape is not None:
        left_out(context, "beside --shape, which has its own", "hidden", "intermediate")
    if memory != "axi":
        left_out(context, f"for memory {memory}; it is of axi only", "ports", "port_bits", "latency", "jitter")
    described, model = _shape(shape, hidden, layers, vocab, intermediate)
    hertz = CLOCKS.get(memory, 0.0) if clock is None else clock
    if (clock is not None and not clock > 0) or (bandwidth is not None and not bandwidth > 0):
        raise TritapeError(
            f"clock and bandwidth must be positive, not {clock!r} and {bandwidth!r}; give Hz and bytes a second"
        )
    if bandwidth is not None and memory != "axi":
        raise TritapeError(f"bandwidth must be left out for memory {memory}, not {bandwidth!r}; only axi has a limit")
    source = Memory(memory, ports, port_bits, latency, jitter, 0.0 if bandwidth is None else bandwidth / hertz)
    if not 1 <= batch <= MAX_BATCH or (batch > 1 and serial):
        raise TritapeError(f"batch must be 1..{MAX_BATCH}, and 1 with --serial, not {batch!r}; choose another number")
    config = Config.for_model(model, groups, tables_per_filler, engines, serial=serial, batch=batch, code=code)
    require_compiler()
    ids = np.random.default_rng(0).integers(0, model.vocab_size, (tokens, batch))
    with progress("making a random model") as update:
        calibrate = [*ids.reshape(-1)[:tokens].tolist(), *range(min(PREFILLED, model.vocab_size))]
        quantised = quantise_model(
            random_checkpoint(model, seed=0, sparse4=code == SPARSE4.name), ids=calibrate, progress=update
        )
    image_bytes = image_words(model, groups, config.max_rows, engines, config.weight_code) * config.word_bytes
    with build_progress("building simulator") as tell:
        simulation = Simulation(config, progress=tell, memory=source, image_bytes=image_bytes)
    with simulation, progress("simulating") as update:
        measured = measure(simulation, quantised, ids.tolist(), update)
    result: dict[str, Any] = {
        "shape": described,
        "code": code,
        "memory": memory,
        **({"ports": ports, "port_bits": port_bits, "latency": latency, "jitter": jitter} if memory == "axi" else {}),
        "clock_hz": hertz,
        "tokens_per_second": batch * hertz / measured["measured_cycles"],
        **({"prompt_tokens_per_second": batch * hertz / measured["prompt_cycles"]} if batch > 1 else {}),
        **measured,
    }
    report(result, json_file, f"measured in RTL simulation, memory {memory}; tokens_per_second projected at clock_hz")
    if measured["difference"] is not None:
        raise typer.Exit(1)
