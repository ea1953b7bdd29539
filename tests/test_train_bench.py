"""The GPU measurements: what they say without a GPU, and what they record."""

from __future__ import annotations

import json
import runpy
from pathlib import Path

import pytest

torch = pytest.importorskip("torch", reason="needs the extra tritape[train]")

from tritape.base.errors import TritapeError  # noqa: E402
from tritape.train import bench  # noqa: E402

MEASUREMENTS = ["bench_training", "bench_batched", "bench_decoding"]


@pytest.mark.skipif(torch.cuda.is_available(), reason="says what happens without a GPU")
@pytest.mark.parametrize("name", MEASUREMENTS)
def test_measurement_needs_a_gpu(name: str) -> None:
    main = runpy.run_module(f"tritape.train.{name}")["main"]
    with pytest.raises(
        TritapeError, match="device must be an NVIDIA GPU, not absent; run this measurement on a machine"
    ):
        main(json=None)


def test_results_are_written_after_each_figure(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bench, "machine", lambda: {"card": "none"})
    monkeypatch.setattr("sys.argv", ["/somewhere/bench_training.py", "--batches", "1,2", "--json", "/elsewhere/a.json"])
    results = bench.Results(tmp_path / "a.json")
    for value in (1, 2):
        results.add("figure", value)
        assert json.loads((tmp_path / "a.json").read_text()) == {
            "command": "python -m tritape.train.bench_training --batches 1,2 --json a.json",
            "card": "none",
            "figure": value,
        }


def test_released_shapes() -> None:
    parameters = {
        name: sum(rows * columns[0] if columns else rows for _, (rows, *columns) in config.tensor_shapes())
        for name, config in bench.SHAPES.items()
    }
    assert {name: round(count / 1e9, 2) for name, count in parameters.items()} == {
        "370M": 0.37,
        "1.3B": 1.36,
        "2.7B": 2.7,
    }
