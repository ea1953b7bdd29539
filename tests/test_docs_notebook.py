"""The notebook of docs/examples, executed: every cell runs, and shows what it shows there."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Any

import pytest

NOTEBOOK = Path(__file__).parent.parent / "docs/examples/first_text.ipynb"
nbformat = pytest.importorskip("nbformat", reason="nbformat must be installed: extra notebook")
nbclient = pytest.importorskip("nbclient", reason="nbclient must be installed: extra notebook")


def shown(cell: Any) -> list[str]:
    """Texts of a cell's outputs; of a picture that there is one."""
    found = []
    for output in cell.get("outputs", []):
        assert output.output_type in ("execute_result", "display_data"), "no remarks, no errors"
        found += ["picture"] if "image/png" in output.data else [output.data["text/plain"]]
    return found


def test_it_is_kept_with_what_its_cells_show():
    """So that it can be read without being run; no path of a machine is in it."""
    text = NOTEBOOK.read_text()
    cells = [cell for cell in nbformat.reads(text, 4).cells if cell.cell_type == "code"]
    assert sum(bool(shown(cell)) for cell in cells) >= 7
    assert "picture" in shown(cells[-1])
    assert not re.search(r"/(home|root|tmp|work)/", text)
    for target in re.findall(r"\]\((\.\./[\w.-]+)\)", text):
        assert (NOTEBOOK.parent / target).exists(), target


@pytest.mark.long
def test_its_cells_run_and_show_the_same(tmp_path, monkeypatch):
    pytest.importorskip("ipykernel", reason="ipykernel must be installed: extra notebook")
    pytest.importorskip("pywellen", reason="pywellen must be installed: extra notebook")
    monkeypatch.setenv("TRITAPE_SIMULATOR", "quick")
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(NOTEBOOK.parents[2]), os.environ.get("PYTHONPATH", "")]))
    kept = nbformat.read(NOTEBOOK, 4)
    run = nbformat.read(NOTEBOOK, 4)
    client = nbclient.NotebookClient(
        run, timeout=1800, kernel_name="python3", resources={"metadata": {"path": tmp_path}}
    )
    client.execute()
    for number, (before, after) in enumerate(zip(kept.cells, run.cells, strict=True)):
        assert shown(after) == shown(before), f"cell {number}"
