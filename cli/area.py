"""`tritape area`: what a unit, or all of it, costs on an ECP5, or unit by unit."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer
from rich.table import Column, Table

from tritape.base.errors import TritapeError
from tritape.base.files import replacing
from tritape.base.json_text import json_text
from tritape.cli import app
from tritape.cli.common import console, left_out
from tritape.cli.common import report as show
from tritape.cli.model import Code
from tritape.hw.accelerator import Accelerator
from tritape.hw.config import Config
from tritape.hw.engine.choice import engine_of
from tritape.rtl_gen.area import accelerator_area, engine_area, luts_per_mac, xilinx_cells
from tritape.rtl_gen.units import units_area

UNITS = ["engine", "accelerator"]
XILINX = ("xc7", "xcu", "xcup")
DEFAULT = Config()


@app.command()
def area(
    context: typer.Context,
    unit: Annotated[
        str,
        typer.Argument(help="engine (the ternary-accumulate core) or accelerator (everything but the memory)."),
    ] = "engine",
    groups: Annotated[
        int, typer.Option(help="Tables side by side; 5 multiply-accumulates a cycle each.")
    ] = DEFAULT.groups,
    tables_per_filler: Annotated[
        int, typer.Option(help="Tables that one filler serves in turn.")
    ] = DEFAULT.tables_per_filler,
    engines: Annotated[int, typer.Option(help="Engines, each with a lane of the vector units.")] = DEFAULT.engines,
    batch: Annotated[int, typer.Option(help="Tokens that one pass over the tape serves.")] = DEFAULT.batch,
    code: Code = DEFAULT.code,
    block_tables: Annotated[
        bool, typer.Option("--block-tables", help="With sparse4: tables in block RAM, not in LUT RAM.")
    ] = False,
    route: Annotated[bool, typer.Option("--route", help="Place and route too, for the clock (minutes).")] = False,
    seed: Annotated[
        list[int] | None, typer.Option(help="Seed of placement; repeat it to try several until 125 MHz.")
    ] = None,
    by_unit: Annotated[
        bool, typer.Option("--by-unit", help="The accelerator's cells unit by unit, before packing.")
    ] = False,
    family: Annotated[
        str,
        typer.Option(help=f"ecp5, or {', '.join(XILINX)}: LUT6s by Yosys, not packed; with --by-unit ecp5 or ice40."),
    ] = "ecp5",
    board: Annotated[str | None, typer.Option(help="With --by-unit: take the configuration of this board.")] = None,
    json: Annotated[Path | None, typer.Option(help="Write the numbers to this file.")] = None,
) -> None:
    """Synthesise a unit for an ECP5-85F of speed grade 6, or for a Xilinx family, and report its cost."""
    if unit not in UNITS:
        raise TritapeError(f"unit must be one of {', '.join(UNITS)}, not {unit!r}; choose one")
    if by_unit:
        left_out(context, "beside --by-unit", "route", "seed")
        if unit == "engine":
            left_out(context, "beside --by-unit, which is of the whole accelerator", "unit")
        if board is not None:
            own = ("groups", "tables_per_filler", "engines", "batch", "code", "block_tables")
            left_out(context, "beside --board, which has its own", *own)
    else:
        left_out(context, "without --by-unit", "board")
        if not route:
            left_out(context, "without --route", "seed")
    if not by_unit and family != "ecp5" and (family not in XILINX or route):
        raise TritapeError(
            f"family must be ecp5, or without --route one of {', '.join(XILINX)}, not {family!r}; choose one of them"
        )
    rows = max(DEFAULT.max_rows, 512 * engines)  # as `Config.for_model`
    config = Config(
        groups, tables_per_filler, engines, max_rows=rows, batch=batch, code=code, block_tables=block_tables
    )
    if by_unit:
        _by_unit(configuration(board) if board else config, family, json)
        return
    tables = groups * engines * (batch if unit == "accelerator" else 1)
    if family in XILINX:
        component, open_ports = (engine_of(config), ()) if unit == "engine" else (Accelerator(config), ("probe",))
        with console.status(f"{unit}: starting") as status:
            cells = xilinx_cells(component, unit, family, open_ports, lambda step: status.update(f"{unit}: {step}"))
        per_mac = {"luts_per_mac": round((cells["logic"] + cells["memory"]) / config.weight_code.tile(tables), 3)}
        show(cells | per_mac, json, f"{unit}, {code}, E={engines} G={groups} T={batch}, {family} (Yosys, not packed)")
        return
    measure = engine_area if unit == "engine" else accelerator_area
    seeds = {"seeds": seed} if seed else {}
    with console.status(f"{unit}: starting") as status:
        report = measure(config, route=route, progress=lambda step: status.update(f"{unit}: {step}"), **seeds)
    numbers = {
        "luts": report.luts,
        "luts_per_mac": round(luts_per_mac(report, tables, config.weight_code), 3),
        "ffs": report.ffs,
        "brams": report.brams,
        "dsps": report.dsps,
        "fmax_mhz": report.fmax_mhz,
    }
    show(numbers, json, f"{unit}, {code}, E={engines} G={groups} T={batch}, ECP5-85F-6")


def _by_unit(config: Config, family: str, json: Path | None) -> None:
    component = Accelerator(config)
    with console.status("synthesis") as status:
        units = units_area(component, family, open_ports=("probe",), progress=status.update)
    table = Table("unit", *(Column(name, justify="right") for name in ("LUT4", "carry", "FF", "block RAM", "DSP")))
    for unit in units:
        table.add_row(
            unit.name, *(f"{count:,}" for count in (unit.luts, unit.carries, unit.ffs, unit.brams, unit.dsps))
        )
    console.print(table)
    if json is not None:
        with replacing(json) as stream:
            stream.write((json_text([asdict(unit) for unit in units], 2) + "\n").encode())


def configuration(name: str) -> Config:
    """Of a board."""
    from tritape.rtl_gen.boards import board

    return board(name).config
