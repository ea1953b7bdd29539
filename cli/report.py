"""`tritape report` and `timeline`: every measurement as one page of plots, and the memory over a token for it."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from tritape.base.errors import TritapeError
from tritape.base.extras import require
from tritape.base.files import replacing
from tritape.cli import app
from tritape.cli.common import out, output_file, write_json
from tritape.cli.estimate import Model, model_shape
from tritape.cli.model import Groups
from tritape.hw.config import Config
from tritape.model.tape.layout import Geometry, Section
from tritape.rtl_gen.estimate import token_cycles

DEFAULT = Config()


@app.command()
def report(
    measurements: Annotated[
        Path, typer.Argument(help="Folder with the files that --json of other commands wrote.")
    ] = Path("benchmarks"),
    output: Annotated[Path, typer.Option("-o", "--output", help="The page to write.", callback=output_file)] = Path(
        "report.html"
    ),
) -> None:
    """Write one HTML page with plots of all measurements in a folder; what is not there, it says how to measure."""
    from tritape.rtl_gen.report.measurements import read_measurements
    from tritape.rtl_gen.report.page import write_page

    require("plots", "matplotlib")
    found = read_measurements(measurements)
    page, absent = write_page(found, measurements.as_posix())
    with replacing(output) as stream:
        stream.write(page.encode())
    out.print(f"{output}: {len(page.encode()):,} bytes" + (f"; not measured: {', '.join(absent)}" if absent else ""))


@app.command()
def timeline(
    model: Model,
    json_file: Annotated[Path, typer.Option("--json", help="The file to write.", callback=output_file)],
    groups: Groups = DEFAULT.groups,
    bandwidth: Annotated[float | None, typer.Option(help="Memory, bytes a second (default: G a cycle).")] = None,
    clock: Annotated[float, typer.Option(help="Clock of the engine, Hz.")] = 80e6,
) -> None:
    """When each section of a tape is read within a token, from the cycle model: the report's plot of the memory."""
    if not clock > 0 or (bandwidth is not None and not bandwidth > 0):
        raise TritapeError(
            f"clock and bandwidth must be positive, not {clock!r} and {bandwidth!r}; give Hz and bytes a second"
        )
    shape = model_shape(model)
    word_cycles = 1.0 if bandwidth is None else max(1.0, groups * clock / bandwidth)
    geometry = Geometry(groups)
    row = geometry.row_words(shape.hidden_size)
    sections: list[tuple[str, float, float, int]] = []

    def note(section: Section, start: float, end: float) -> None:
        if not sections:
            sections.append(("embedding", 0.0, round(start, 1), row))
        name = section.what or section.opcode.name
        sections.append((name, round(start, 1), round(end, 1), geometry.section_words(section)))

    cycles, _ = token_cycles(shape, Config.for_model(shape, groups), word_cycles, note)
    result = {
        "model": model,
        "kind": "projected",
        "groups": groups,
        "clock_hz": clock,
        "word_cycles": word_cycles,
        "cycles_per_token": round(cycles),
        "timeline": sections,
    }
    write_json(json_file, result)
    busy = sum(words for *_, words in sections) * word_cycles / cycles
    out.print(f"{json_file}: {len(sections):,} sections, memory busy {busy:.1%} of the token (cycle model)")
