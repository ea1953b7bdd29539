"""`tritape generate`: text from the generated Verilog in cycle-accurate simulation."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from tritape.base.errors import TritapeError
from tritape.base.simulators import require_compiler
from tritape.cli import app
from tritape.cli.common import (
    IgnoreEOS,
    build_progress,
    left_out,
    model_path,
    opened,
    out,
    output_file,
    report,
    write,
    write_json,
)
from tritape.cli.model import Groups, JsonFile
from tritape.host.protocol import inverse_temperature
from tritape.hw.config import Config

CLOCK_HZ = 80_000_000
"""Clock that tokens per second are projected with unless --clock says otherwise: what `tritape area accelerator --route`
must close on an ECP5-85F."""


@app.command()
def generate(
    context: typer.Context,
    prompt: Annotated[str, typer.Argument(help="Text to go on from; it must not end in a space.")],
    model: Annotated[
        Path | None,
        typer.Option(help="Checkpoint folder, tape, or a name (default: small).", callback=model_path),
    ] = None,
    tokens: Annotated[int, typer.Option(help="Tokens to generate.")] = 32,
    temperature: Annotated[float, typer.Option(help="0 is greedy.")] = 0.0,
    seed: Annotated[int, typer.Option(help="Seed of the sampler, 0 to 2^32 - 1.")] = 0,
    ignore_eos: IgnoreEOS = False,
    groups: Groups = 16,
    clock: Annotated[int, typer.Option(help="Clock in Hz for the projected tokens per second.")] = CLOCK_HZ,
    trace: Annotated[Path | None, typer.Option(help="Write waveforms to this FST file.", callback=output_file)] = None,
    poison: Annotated[
        bool, typer.Option("--poison", help="Block RAM gives garbage where a read meets a write of the same word.")
    ] = False,
    json_file: JsonFile = None,
    check: Annotated[
        bool, typer.Option("--check/--no-check", help="Compare every logit with the golden model.")
    ] = True,
) -> None:
    """Generate text in simulated hardware; every token's logits are compared with the integer golden model."""
    from tritape.sim import generate as simulated

    # all that can be wrong is found out before the minutes of the build
    if not 0 <= seed < 1 << 32:
        raise TritapeError(f"seed must be from 0 to 4294967295, not {seed}; choose another")
    if tokens < 1:
        raise TritapeError(f"tokens must be at least 1, not {tokens}; ask for more")
    if clock < 1:
        raise TritapeError(f"clock must be at least 1 Hz, not {clock}; give the frequency in Hz")
    if trace is not None and trace.suffix != ".fst":
        raise TritapeError(f"{trace}: name of a trace must end in .fst, not {trace.suffix!r}; rename it")
    require_compiler()
    source = opened(model)
    tokenizer, quantised = source.codec, source.quantised
    if source.tape is not None:
        left_out(context, "with a tape, which is packed for its own", "groups")
        groups = source.tape.geometry.groups
    inverse_temperature(temperature, quantised.logit_fraction)
    ids = tokenizer.encode(prompt)
    if not ids:
        raise TritapeError("prompt must have at least one token, not none; give some text")
    config = Config.for_model(quantised.config, groups)
    ends = frozenset() if ignore_eos else tokenizer.eos_ids
    stream = tokenizer.stream(ids)
    with build_progress("building simulator") as tell:
        simulation = simulated.Simulation(config, trace, tell, poison=poison)
    with simulation:
        generator = simulated.Generator(
            simulation, quantised, groups, max_rows=config.max_rows, temperature=temperature, seed=seed, check=check
        )
        pieces: list[str] = []

        def show(token: int) -> None:
            pieces.append("" if token in ends else stream.push(token))
            write(pieces[-1])

        write(prompt)
        result = simulated.generate(generator, ids, tokens, show, ends)
    pieces.append(stream.finish())
    write(pieces[-1] + "\n")
    del result["generated_ids"]
    result = {
        "text": "".join(pieces),
        **result,
        "clock_hz": clock,
        "tokens_per_second": clock / result["cycles_per_token"],
    }
    summary: dict[str, Any] = {key: value for key, value in result.items() if key not in ("text", "difference")}
    if json_file is not None:
        write_json(json_file, result)
    report(summary, None, "simulated cycles; tokens per second projected from the clock")
    if result["difference"] is not None:
        out.print(f"first difference: {result['difference']}")
        raise typer.Exit(1)
