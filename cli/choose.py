"""`tritape choose`: the design point for a model, a memory and a part; on a card of several regions its replicas too."""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated, Any

import typer
from rich.table import Table

from tritape.base.errors import TritapeError
from tritape.cli import app
from tritape.cli.common import out, progress, wide, write_json
from tritape.cli.estimate import Model, check_memory, model_shape
from tritape.cli.model import Code, JsonFile
from tritape.hw.config import Config
from tritape.hw.link.commands import DATA_BYTES
from tritape.model.codes import TERNARY5, WeightCode, code_named
from tritape.model.config import ModelConfig
from tritape.rtl_gen.choose import choose as choose_point
from tritape.rtl_gen.choose import memory_defaults
from tritape.rtl_gen.parts import PARTS, Part
from tritape.rtl_gen.parts import part as part_of
from tritape.rtl_gen.replicas import ReplicaPoint, choose_replicas
from tritape.rtl_gen.ultrascale import LIMITS, NAMES

CARDS = [name for name, part in PARTS.items() if part.regions > 1]
"""Parts whose slots and replicas are chosen."""


@app.command()
def choose(
    model: Model,
    bandwidth: Annotated[float, typer.Option(help="Memory, bytes a second; of a card, all channels together.")],
    part: Annotated[str, typer.Option(help=f"{', '.join(PARTS)}.")],
    clock: Annotated[float, typer.Option(help="Clock of the engine, Hz.")],
    batch: Annotated[
        int | None,
        typer.Option(help=f"Tokens that one pass serves (default: 1; as many as fit on {', '.join(CARDS)})."),
    ] = None,
    stream_rate: Annotated[
        float | None, typer.Option(help=f"Tokens a second that each stream must have, on {', '.join(CARDS)}.")
    ] = None,
    replicas: Annotated[
        int | None, typer.Option(help=f"Accelerators that share the card (default: the best), on {', '.join(CARDS)}.")
    ] = None,
    code: Code = TERNARY5.name,
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
    """The engines (E) and groups (G) for a model, a memory and a part, and why; on a card also the slots (T) and replicas with
    the most tokens a second. By cycle model and footprint; no synthesis."""
    shape = model_shape(model)
    check_memory(clock, bandwidth, read_ahead or 0.0, latency or 0.0)
    target = part_of(part)
    ahead, first = memory_defaults(clock, bandwidth)
    ahead, first = ahead if read_ahead is None else read_ahead, first if latency is None else latency
    about: dict[str, Any] = {"model": model, "part": part, "clock_hz": clock, "bandwidth": bandwidth}
    title = f"{model}, {bandwidth / 1e9:g} GB/s, {clock / 1e6:g} MHz, {target.title} (cycle model; rates are projected)"
    weights = code_named(code)
    if target.regions > 1:
        if weights is not TERNARY5:
            raise TritapeError(
                f"code must be {TERNARY5.name} for {part}, not {code!r}; replicas are chosen for that one only"
            )
        if stream_rate is not None and not stream_rate >= 0:
            raise TritapeError(f"stream-rate must not be negative, not {stream_rate!r}; give tokens a second")
        result, table, remarks = _card(
            shape, target, about, title, stream_rate or 0.0, ahead, first, batch, replicas, others
        )
    else:
        for name, value in (("stream-rate", stream_rate), ("replicas", replicas)):
            if value is not None:
                raise TritapeError(
                    f"{name} must be left out for {part}, not {value!r}; slots and replicas are chosen for {', '.join(CARDS)}"
                )
        result, table, remarks = _part(
            shape, target, about, title, ahead, first, 1 if batch is None else batch, others, weights
        )
    if json_file is not None:
        write_json(json_file, result)
    wide(150).print(table)
    for remark in remarks:
        out.print(remark)


def _command(model: str, config: Config, clock: float, bandwidth: float, ahead: float, first: float) -> str:
    """The `tritape estimate` of a point."""
    code = "" if config.weight_code is TERNARY5 else f"--code {config.code} "
    return (
        f"tritape estimate {model} --engines {config.engines} --groups {config.groups} "
        f"--tables-per-filler {config.tables_per_filler} --batch {config.batch} {code}--clock {clock:.12g} "
        f"--bandwidth {bandwidth:.12g} --read-ahead {ahead:.12g} --latency {first:.12g}"
    )


def _part(
    shape: ModelConfig,
    target: Part,
    about: dict[str, Any],
    title: str,
    ahead: float,
    first: float,
    batch: int,
    others: int,
    code: WeightCode,
) -> tuple[dict[str, Any], Table, list[str]]:
    """One accelerator on the whole part: the result, and how it is shown."""
    model, clock, bandwidth = about["model"], about["clock_hz"], about["bandwidth"]
    with progress("estimating") as update:
        chosen = choose_point(shape, target, clock, bandwidth, ahead, first, batch, update, code)
    best = chosen.best
    command = _command(model, best.config, clock, bandwidth, ahead, first)
    table = Table(title=title, title_justify="left")
    for name in ("", "tokens/s", "roofline", f"LUT{target.lut_inputs}", "block RAM", "DSP", ""):
        table.add_column(name, justify="right" if name else "left")
    for made, why in [(best, f"chosen; limited by {chosen.why}"), *chosen.others[:others]]:
        table.add_row(
            made.name, f"{made.rate:,.1f}", f"{made.roofline:.3f}",
            *(f"{count:,} ({made.share[what]:.0%})" for what, count in asdict(made.cost).items()), why,
        )  # fmt: skip
    remarks = [f"{chosen.points} points estimated; of the chosen one: {command}"]
    if best.config.word_bytes > DATA_BYTES and batch == 1:
        remarks.append(
            f"A word of {best.config.word_bytes} bytes does not fit in a frame of the host link ({DATA_BYTES}): not buildable yet"
        )
    result = about | {
        "batch": batch, "kind": "projected", "chosen": best.as_dict(), "why": chosen.why, "command": command,
        "points": chosen.points, "others": [made.as_dict() | {"why": why} for made, why in chosen.others[:others]],
        "larger": chosen.larger and chosen.larger.as_dict(),
    }  # fmt: skip
    return result, table, remarks


def _card(
    shape: ModelConfig, target: Part, about: dict[str, Any], title: str, stream_rate: float, ahead: float, first: float,
    batch: int | None, replicas: int | None, others: int,
) -> tuple[dict[str, Any], Table, list[str]]:  # fmt: skip
    """Slots and replicas on a card: the result, and how it is shown."""
    model, clock, bandwidth = about["model"], about["clock_hz"], about["bandwidth"]
    with progress("estimating") as update:
        chosen = choose_replicas(
            shape, target, clock, bandwidth, stream_rate, ahead, first, batch, replicas, update
        )  # fmt: skip
    best = chosen.best
    share = bandwidth / best.replicas
    command = _command(model, best.config, clock, share, ahead / best.replicas, first)
    table = Table(title=f"{title}, at least {stream_rate:g} a stream", title_justify="left")
    for name in ("", "tokens/s", "a stream", "roofline", *NAMES.values(), ""):
        table.add_column(name, justify="right" if name else "left")
    for made in [best, *chosen.others[:others]]:
        table.add_row(*_row(made), f"chosen; {chosen.why}" if made is best else made.binding)
    limits = ", ".join(f"{name} {LIMITS[what]:.0%}" for what, name in NAMES.items())
    remark = f"May be used: {limits}. {chosen.points} points estimated; of one replica of the chosen one: {command}"
    result = about | {
        "stream_rate": stream_rate, "kind": "projected", "chosen": best.as_dict(), "why": chosen.why, "command": command,
        "points": chosen.points, "others": [made.as_dict() for made in chosen.others[:others]],
    }  # fmt: skip
    return result, table, [remark]


def _row(made: ReplicaPoint) -> list[str]:
    return [
        made.name, f"{made.rate:,.0f}", f"{made.stream_rate:,.1f}", f"{made.roofline:.3f}",
        *(f"{made.share[name]:.0%}" for name in NAMES),
    ]  # fmt: skip
