"""`tritape verilog`: the hardware as files."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from tritape.cli import app
from tritape.cli.common import out
from tritape.cli.model import Code, Groups
from tritape.hw.config import Config

DEFAULT = Config()
Fillers = Annotated[int, typer.Option(help="Tables that one filler serves in turn.")]
Engines = Annotated[int, typer.Option(help="Engines, each with a lane of the vector units; divides the groups.")]
Serial = Annotated[
    bool, typer.Option("--serial", help="The serial vector unit of small FPGAs instead of the pipelines.")
]


@app.command()
def verilog(
    output: Annotated[Path, typer.Option("-o", "--output", help="Folder to write to.")] = Path("out"),
    name: Annotated[
        str,
        typer.Option(metavar="PREFIX", help="Name of the module, and what all other modules and the files begin with."),
    ] = "tritape",
    bench: Annotated[bool, typer.Option("--bench", help="Also a cocotb bench, to begin your own from.")] = False,
    groups: Groups = DEFAULT.groups,
    tables_per_filler: Fillers = DEFAULT.tables_per_filler,
    engines: Engines = DEFAULT.engines,
    serial: Serial = False,
    code: Code = DEFAULT.code,
    block_tables: Annotated[
        bool, typer.Option("--block-tables", help="With sparse4: tables in block RAM, not in LUT RAM.")
    ] = False,
    batch: Annotated[int, typer.Option(help="Tokens that one pass over the tape serves.")] = DEFAULT.batch,
    max_hidden: Annotated[int, typer.Option(help="Largest hidden size.")] = DEFAULT.max_hidden,
    max_intermediate: Annotated[int, typer.Option(help="Largest intermediate size.")] = DEFAULT.max_intermediate,
    max_layers: Annotated[int, typer.Option(help="Most layers.")] = DEFAULT.max_layers,
    max_vocab: Annotated[int, typer.Option(help="Largest vocabulary.")] = DEFAULT.max_vocab,
    max_rows: Annotated[int, typer.Option(help="Rows a block.")] = DEFAULT.max_rows,
) -> None:
    """Write the accelerator as one Verilog file, its ports and counters as JSON and Markdown, lint waivers, a FuseSoC core, an
    IP-XACT component, a script that packages it for Vivado and a LiteX module."""
    from tritape.rtl_gen.cocotb_bench import bench_names
    from tritape.rtl_gen.verilog import check_name, write_verilog

    check_name(name)
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
        batch=batch,
        code=code,
        block_tables=block_tables,
    )
    description = write_verilog(output, config, "tritape verilog", name=name, bench=bench)
    files = [f"{name}.{suffix}" for suffix in ("v", "json", "md", "vlt", "core", "xml")] + [
        f"{name}_package.tcl",
        f"{name}_litex.py",
    ]
    if bench:
        files += bench_names(name)
    out.print(f"{output}: {', '.join(files)}; configuration {description['configuration_hash']}")
