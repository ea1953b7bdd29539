"""`tritape doctor`: what this machine has and lacks, each with its cure.

It imports nothing of `tritape.cli.common`, which needs packages that may be what is missing.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from tritape.base.files import check_output, descriptor, replacing
from tritape.base.json_text import json_text
from tritape.cli import app
from tritape.host.doctor import examine

COLOURS = {"ok": "green", "warning": "yellow", "problem": "red"}


@app.command()
def doctor(
    json_file: Annotated[Path | None, typer.Option("--json", help="Write the findings to this file.")] = None,
) -> None:
    """Look at compiler, Verilator, packages, extras, cache, disk, ports and their permissions, libusb: ok, warning or problem,
    with the cure. Nothing is changed. Ends with status 1 when there is a problem."""
    if json_file is not None:
        check_output(json_file)
    own = json_file is not None and descriptor(json_file) == 1
    out = Console(soft_wrap=True, highlight=False, markup=False, emoji=False, stderr=own)
    findings = []
    for finding in examine():
        findings.append(finding)
        out.print(f"{finding.status:8}", style=COLOURS[finding.status], end="")
        out.print(f"{finding.name}: {finding.detail}")
        if finding.cure is not None:
            out.print(f"{'':8}cure: {finding.cure}")
    if json_file is not None:
        with replacing(json_file) as stream:
            stream.write((json_text([finding.as_dict() for finding in findings], 2) + "\n").encode())
    if any(finding.status == "problem" for finding in findings):
        raise typer.Exit(1)
