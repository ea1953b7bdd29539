"""Time of one call of the packed model for many sequences or tokens at once, against the plain model.

    python -m tritape.train.bench_batched --json benchmarks/train/batched.json

`packed_ms` as Python launches it, `graph_ms` the same call replayed as a CUDA graph, `plain_ms` the plain model under
bfloat16 autocast, which quantises its weights in every call. Random weights; medians by device events.
"""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Annotated

import torch
import typer

from tritape.train.bench import SHAPES, Results, milliseconds, run
from tritape.train.model import HGRNBitForCausalLM
from tritape.train.packed.model import PackedModel

CALLS = ((1, 1), (8, 1), (64, 1), (256, 1), (1, 128), (1, 1024), (8, 1024))
"""Sequences and tokens of each."""


def main(
    shape: Annotated[str, typer.Option(help="370M, 1.3B or 2.7B")] = "1.3B",
    json: Annotated[Path | None, typer.Option(help="write the figures here")] = None,
) -> None:
    """Measure each call."""
    results = Results(json)
    with torch.device("cuda"):
        model = HGRNBitForCausalLM(SHAPES[shape]).requires_grad_(False)
    packed = PackedModel(model)
    for batch, steps in CALLS:
        ids = torch.randint(0, model.config.vocab_size, (batch, steps), device="cuda")
        times = {"packed_ms": milliseconds(partial(packed.step, ids), 5)[2]}
        with torch.no_grad(), torch.autocast("cuda", torch.bfloat16):
            times["plain_ms"] = milliseconds(partial(model, ids), 3, 1)[1]
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            packed.step(ids)
        times["graph_ms"] = milliseconds(graph.replay, 5)[2]
        results.add(f"{shape} {batch}x{steps}", {name: round(value, 2) for name, value in times.items()})


if __name__ == "__main__":
    run(main)
