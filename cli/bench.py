"""`tritape bench`: tokens a second and joules a token, of a board or of this machine's processor."""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path
from typing import Annotated, Any

import typer

from tritape.base.errors import TritapeError
from tritape.base.extras import require
from tritape.cli import app
from tritape.cli.common import output_file, progress, report
from tritape.cli.device import Baud, BoardName, ModelPath, find_model, load, open_device
from tritape.cli.model import JsonFile
from tritape.host import bench as measuring
from tritape.host.energy import Recorder
from tritape.host.power import SOURCES, open_sensor, read_csv

PROMPT = "It is a truth universally acknowledged, that"
CSV = "csv:"


@app.command()
def bench(
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
    power: Annotated[
        str | None, typer.Option(help=f"Source of the board's power: {'; '.join(SOURCES.values())}; csv:FILE.")
    ] = None,
    cpu_power: Annotated[str | None, typer.Option(help="Source of the processor's power, such as rapl.")] = None,
    idle: Annotated[float, typer.Option(help="Seconds of idle to measure, with a power source.")] = 2.0,
    plot: Annotated[Path | None, typer.Option(help="PNG of power over time.", callback=output_file)] = None,
    board: BoardName = None,
    baud: Baud = None,
    json_file: JsonFile = None,
) -> None:
    """Measure throughput and, with a power source, energy: on a board, on this machine's processor, or both."""
    if port is None and not cpu:
        raise TritapeError("something must be measured, not nothing; give --port, --cpu or both")
    if plot is not None:
        if power is None and cpu_power is None:
            raise TritapeError("a plot must have a power source, not none; add --power")
        require("plots", "matplotlib")
    if not 0 <= idle <= 3600:
        raise TritapeError(f"idle must be from 0 to 3600 seconds, not {idle}; choose another")
    source = find_model(model, board)
    ids = source.codec.encode(prompt)
    settings = {"tokens": tokens, "generations": generations, "warm_up": warm_up, "idle_s": idle}
    result: dict[str, Any] = {"model": source.name, "prompt_tokens": len(ids)}
    outputs = []
    if port is not None:
        with open_device(port, board, baud) as device:
            load(device, source)
            device.settings(0.0, 0)
            measured = _measure("board", device, ids, settings, power, plot)
            counters = device.counters()
            result["board"] = {
                **measured[0],
                "resent_commands": device.link.resent,
                "crc_errors": counters["crc_errors"],
            }
            outputs.append(measured[1])
    if cpu:
        from tritape.host.cpu import CPUModel

        own_plot = plot if power is None else None
        measured = _measure("cpu", CPUModel(source.quantised), ids, settings, cpu_power, own_plot)
        result["cpu"] = measured[0]
        outputs.append(measured[1])
    if len(outputs) == 2:
        result["same_tokens"] = outputs[0] == outputs[1]
        result["board_over_cpu"] = result["board"]["tokens_per_second"] / result["cpu"]["tokens_per_second"]
    report(result, json_file, "measured on this machine's clock")


def _measure(
    name: str,
    source: measuring.TokenSource,
    ids: list[int],
    settings: dict[str, Any],
    power: str | None,
    plot: Path | None,
) -> tuple[dict[str, Any], list[list[int]]]:
    """Run, and what it gave: rates (and energy) ready for JSON, and the tokens."""
    live = power is not None and not power.startswith(CSV)
    with ExitStack() as stack:
        recorder = stack.enter_context(Recorder(open_sensor(power))) if live and power else None
        update = stack.enter_context(progress(f"measuring {name}"))
        run = measuring.measure(
            source,
            ids,
            **{**settings, "idle_s": settings["idle_s"] if power else 0.0},
            recorder=recorder,
            progress=update,
        )
    result = measuring.throughput(run)
    if power is not None:
        trace = recorder.trace if recorder else read_csv(Path(power.removeprefix(CSV)))
        result |= measuring.energy(run, trace)
        result |= {
            "power_source": power,
            "power_scope": recorder.sensor.scope if recorder else "what the meter was connected to",
        }
        if plot is not None:
            measuring.draw(plot, run, trace, f"{name}: {result['joules_per_token']:.3g} J/token")
    return result, run.outputs
