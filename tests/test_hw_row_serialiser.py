"""Logits of several lanes in one stream, in order, without what pads the last slice."""

from __future__ import annotations

import numpy as np
import pytest

from tritape.hw.head.row_serialiser import RowSerialiser
from tritape.sim.bench import SIMULATORS, BenchResult, check_streams


def run(engines: int, counts: list[int], **options: object) -> BenchResult:
    rng = np.random.default_rng(engines)
    slices: list[list[int]] = []
    rows: list[int] = []
    for count in counts:
        block = rng.integers(-131071, 131072, (-(-count // engines), engines))
        slices += block.tolist()
        rows += block.reshape(-1)[:count].tolist()
    return check_streams(
        RowSerialiser(engines, 16),
        inputs={"commands": [{"rows": count} for count in counts], "slices": slices},
        expected={"rows": rows},
        **options,  # type: ignore[arg-type]
    )


@pytest.mark.parametrize("simulator", SIMULATORS)
@pytest.mark.parametrize("engines", [2, 3, 5])
def test_logits_in_order(engines: int, simulator: str) -> None:
    run(engines, [1, engines, engines + 1, 60, 2 * engines - 1, 1, 1], simulator=simulator)


@pytest.mark.parametrize("engines", [2, 4])
def test_rate_and_latency(engines: int) -> None:
    """One logit a cycle across slices; the first `LATENCY` cycles after its slice."""
    result = run(engines, [13 * engines - 1], input_stall=0, output_stall=0)
    rows = result.transfers["rows"]
    assert rows == list(range(rows[0], rows[0] + len(rows)))
    assert rows[0] - result.transfers["slices"][0] == RowSerialiser.LATENCY
