"""`tritape bench`: tokens a second and joules a token, of a board or of this machine's processor."""

from __future__ import annotations

from contextlib import nullcontext
from pathlib import Path
from typing import Annotated, Any

import typer

from tritape.base.errors import TritapeError
from tritape.base.extras import require
from tritape.base.simulators import require_compiler
from tritape.cli import app
from tritape.cli.common import console, left_out, output_file, progress, report
from tritape.cli.device import Baud, BoardName, DraftName, ModelPath, draft_for, find_model, load, open_device
from tritape.cli.model import JsonFile
from tritape.host import bench as measuring
from tritape.host.meter import WAIT_S, Meter
from tritape.host.power import CSV, FILE_SOURCE, SOURCES

PROMPT = "It is a truth universally acknowledged, that"
METERS = "; ".join((*SOURCES.values(), FILE_SOURCE))


@app.command()
def bench(
    context: typer.Context,
    port: Annotated[
        str | None,
        typer.Option(
            "--port",
            "-p",
            help="Serial port of the board, or of a virtual one; uio:NAME for fabric beside this processor.",
        ),
    ] = None,
    cpu: Annotated[bool, typer.Option("--cpu", help="Measure this machine's processor (too).")] = False,
    model: ModelPath = None,
    prompt: Annotated[str, typer.Option(help="Text every generation starts from.")] = PROMPT,
    tokens: Annotated[int, typer.Option("--tokens", "-n", help="Tokens of a generation.")] = 128,
    generations: Annotated[int, typer.Option(help="Generations that count.")] = 5,
    warm_up: Annotated[int, typer.Option(help="Generations before, that do not.")] = 1,
    power: Annotated[str | None, typer.Option(help=f"Source of the board's power: {METERS}.")] = None,
    cpu_power: Annotated[
        str | None, typer.Option(help="Source of the processor's power: rapl, or any of those of --power.")
    ] = None,
    power_wait: Annotated[
        float | None,
        typer.Option(
            help=f"Seconds to wait after the run for the last samples of csv:FILE (default {WAIT_S:g}); "
            "when given, the file may come after the run."
        ),
    ] = None,
    idle: Annotated[float, typer.Option(help="Seconds of idle to measure, with a power source.")] = 2.0,
    plot: Annotated[Path | None, typer.Option(help="PNG of power over time.", callback=output_file)] = None,
    draft: DraftName = None,
    board: BoardName = None,
    baud: Baud = None,
    json_file: JsonFile = None,
) -> None:
    """Measure throughput and, with a power source, energy: on a board, on this machine's processor, or both. When the sensor or
    a later generation fails, what was measured is still written, with what failed, and the exit status is 1."""
    _check(port, cpu, power, cpu_power, power_wait, idle, plot)
    if port is None:
        left_out(context, "without --port", "baud")
    if not any(text is not None and text.startswith(CSV) for text in (power, cpu_power)):
        left_out(context, "without csv:FILE, whose samples it waits for", "power_wait")
    meters = {
        name: Meter(text, power_wait) for name, text in (("board", power), ("cpu", cpu_power)) if text is not None
    }
    if draft is not None and port is None:
        raise TritapeError("--draft must come with --port, not alone; add it")
    source = find_model(model, board)
    guesses = draft_for(draft, source)
    ids = source.codec.encode(prompt)
    settings = {"tokens": tokens, "generations": generations, "warm_up": warm_up, "idle_s": idle}
    result: dict[str, Any] = {"model": source.name, "prompt_tokens": len(ids)}
    runs: dict[str, measuring.Run] = {}
    if port is not None:
        with open_device(port, board, baud) as device:
            load(device, source)
            device.speculate(guesses)
            device.settings(0.0, 0)
            runs["board"], result["board"] = _measure("board", device, ids, settings, meters.get("board"))
            result["board"] |= device.drafted.report() if draft is not None else {}
            result["board"]["resent_commands"] = device.link.resent
            try:
                result["board"]["crc_errors"] = device.counters()["crc_errors"]
            except TritapeError as error:  # the port is gone, what was measured is not
                result["board"].setdefault("stopped", f"crc_errors could not be read: {error}")
    if cpu:
        from tritape.host.cpu import CPUModel

        try:
            runs["cpu"], result["cpu"] = _measure("cpu", CPUModel(source.quantised), ids, settings, meters.get("cpu"))
        except (TritapeError, KeyboardInterrupt) as error:
            if not runs:
                raise
            result["cpu"] = {"stopped": f"nothing was measured: {str(error) or 'interrupted'}"}
    if len(runs) == 2:
        result |= _compare(runs, result)
    report(result, json_file, "measured on this machine's clock")
    faults = _faults(result)
    for fault in faults:
        console.print(f"tritape: {fault}", soft_wrap=True, highlight=False)
    if plot is not None:
        _draw(plot, meters, runs, result)
    if faults:
        raise typer.Exit(1)


def _check(
    port: str | None,
    cpu: bool,
    power: str | None,
    cpu_power: str | None,
    power_wait: float | None,
    idle: float,
    plot: Path | None,
) -> None:
    """Raise TritapeError for options that cannot be, before anything runs."""
    if port is None and not cpu:
        raise TritapeError("something must be measured, not nothing; give --port, --cpu or both")
    for option, given, what in (("--power", power, port is not None), ("--cpu-power", cpu_power, cpu)):
        if given is not None and not what:
            raise TritapeError(
                f"{option} must come with {'--port' if option == '--power' else '--cpu'}, not alone; add it"
            )
    if plot is not None:
        if power is None and cpu_power is None:
            raise TritapeError("a plot must have a power source, not none; add --power")
        require("plots", "matplotlib")
    if not 0 <= idle <= 3600:
        raise TritapeError(f"idle must be from 0 to 3600 seconds, not {idle}; choose another")
    if power_wait is not None and not 0 <= power_wait <= 86400:
        raise TritapeError(f"power-wait must be from 0 to 86400 seconds, not {power_wait}; choose another")
    if cpu:
        require_compiler()


def _faults(result: dict[str, Any]) -> list[str]:
    """What could not be measured, one line each."""
    return [
        f"{name}: {result[name][what]}"
        for name in ("board", "cpu")
        for what in ("stopped", "power_error")
        if what in result.get(name, {})
    ]


def _measure(
    name: str, source: measuring.TokenSource, ids: list[int], settings: dict[str, Any], meter: Meter | None
) -> tuple[measuring.Run, dict[str, Any]]:
    """A run, and what it gave: rates (and energy) ready for JSON."""
    with nullcontext() if meter is None else meter.recorder() as recorder, progress(f"measuring {name}") as update:
        run = measuring.measure(
            source,
            ids,
            **{**settings, "idle_s": 0.0 if meter is None else settings["idle_s"]},
            recorder=recorder,
            progress=update,
        )
    result = measuring.throughput(run)
    if meter is not None:
        result |= meter.energy(run, recorder)
    if run.stopped is not None:
        result["stopped"] = run.stopped
    return run, result


def _compare(runs: dict[str, measuring.Run], result: dict[str, Any]) -> dict[str, Any]:
    """Board and processor side by side; generations that only one of them has are left out."""
    both = [pair[0] == pair[1] for pair in zip(runs["board"].outputs, runs["cpu"].outputs)]
    board, cpu = (result[name]["tokens_per_second"] for name in ("board", "cpu"))
    return {"same_tokens": all(both), "board_over_cpu": board / cpu if board and cpu else None}


def _draw(plot: Path, meters: dict[str, Meter], runs: dict[str, measuring.Run], result: dict[str, Any]) -> None:
    """The first trace that there is."""
    for name, run in runs.items():
        trace = meters[name].trace if name in meters else None
        if trace is not None and len(trace) > 1:
            joules = result[name].get("joules_per_token")
            measuring.draw(plot, run, trace, name if joules is None else f"{name}: {joules:.3g} J/token")
            return
