"""Activation memory and time of a training step, fused against plain, both in one run.

    python -m tritape.train.bench_training --json benchmarks/train/training.json

A step is forward, backward and AdamW (PyTorch's fused implementation, on both sides) under bfloat16 autocast, parameters
in float32. Activation memory is the highest memory allocated during forward and backward less what was allocated before
them, when parameters, gradients and optimiser state are all there already. Times are medians by device events:
`step_ms` of the step as Python launches it, `graph_ms` of the same step replayed as one CUDA graph, which leaves out
what the host's processor adds.
"""

from __future__ import annotations

import gc
from pathlib import Path
from typing import Annotated, Any

import torch
import typer

from tritape.train.bench import SHAPES, Results, milliseconds, run
from tritape.train.model import ComputePath, HGRNBitForCausalLM


def main(
    shape: Annotated[str, typer.Option(help="370M, 1.3B or 2.7B")] = "1.3B",
    tokens: Annotated[int, typer.Option(help="tokens of a sequence")] = 1024,
    batches: Annotated[str, typer.Option(help="sequences of a step, comma-separated")] = "4",
    repeats: Annotated[int, typer.Option(help="steps timed")] = 5,
    profile: Annotated[Path | None, typer.Option(help="write the kernels' times of one fused step here")] = None,
    json: Annotated[Path | None, typer.Option(help="write the figures here")] = None,
) -> None:
    """Measure both paths at each batch size and print their ratios."""
    results = Results(json)
    sizes = [int(batch) for batch in batches.split(",")]
    figures: dict[str, dict[int, Any]] = {"plain": {}, "fused": {}}
    paths: tuple[ComputePath, ...] = ("fused", "plain")
    for path in paths:
        torch.manual_seed(0)
        with torch.device("cuda"):
            model = HGRNBitForCausalLM(SHAPES[shape], path)
        optimiser = torch.optim.AdamW(model.parameters(), lr=1e-4, fused=True, capturable=True)
        for batch in sizes:
            try:
                figures[path][batch] = _measure(model, optimiser, batch, tokens, repeats)
                gc.collect()
                torch.cuda.empty_cache()
                figures[path][batch]["graph_ms"] = _graph(model, optimiser, batch, tokens, repeats)
            except torch.cuda.OutOfMemoryError:
                figures[path].setdefault(batch, None)
                optimiser.zero_grad(set_to_none=True)
            results.add(f"{path} {shape} {batch}x{tokens}", figures[path][batch])
        if path == "fused" and profile is not None:
            _profile(model, optimiser, sizes[0], tokens, profile)
        del model, optimiser
        gc.collect()
        torch.cuda.empty_cache()
    for batch in sizes:
        plain, fused = figures["plain"][batch], figures["fused"][batch]
        if plain and fused:
            results.add(
                f"activation memory, fused / plain, {batch}x{tokens}",
                round(fused["activation_gb"] / plain["activation_gb"], 3),
            )
            results.add(f"speed, fused / plain, {batch}x{tokens}", round(plain["step_ms"] / fused["step_ms"], 2))
            if "graph_ms" in plain:
                ratio = round(plain["graph_ms"] / fused["graph_ms"], 2)
                results.add(f"speed in a CUDA graph, fused / plain, {batch}x{tokens}", ratio)


def _measure(
    model: HGRNBitForCausalLM, optimiser: torch.optim.Optimizer, batch: int, tokens: int, repeats: int
) -> dict[str, float]:
    ids = torch.randint(0, model.config.vocab_size, (batch, tokens), device="cuda")
    targets = ids.roll(-1, 1)
    losses: list[torch.Tensor] = []

    def step() -> None:
        _forward_backward(model, ids, targets, losses)
        optimiser.step()
        optimiser.zero_grad(set_to_none=True)

    step()
    _forward_backward(model, ids, targets, losses)  # the gradients are there now
    torch.cuda.synchronize()
    held = torch.cuda.memory_allocated()
    torch.cuda.reset_peak_memory_stats()
    _forward_backward(model, ids, targets, losses)
    torch.cuda.synchronize()
    peak = torch.cuda.max_memory_allocated()
    optimiser.zero_grad(set_to_none=True)
    times = milliseconds(step, repeats)
    return {
        "activation_gb": round((peak - held) / 1e9, 3),
        "peak_gb": round(peak / 1e9, 3),
        "held_gb": round(held / 1e9, 3),
        "step_ms": round(times[len(times) // 2], 2),
        "fastest_ms": round(times[0], 2),
        "slowest_ms": round(times[-1], 2),
        "first_loss": round(float(losses[0]), 4),
        "last_loss": round(float(losses[-1]), 4),
    }


def _graph(model: HGRNBitForCausalLM, optimiser: torch.optim.Optimizer, batch: int, tokens: int, repeats: int) -> float:
    ids = torch.randint(0, model.config.vocab_size, (batch, tokens), device="cuda")
    graph = torch.cuda.CUDAGraph()
    optimiser.zero_grad(set_to_none=True)
    with torch.cuda.graph(graph):
        with torch.autocast("cuda", dtype=torch.bfloat16, cache_enabled=False):
            loss = model.loss(ids, ids)
        loss.backward()
        optimiser.step()
    times = milliseconds(graph.replay, repeats)
    optimiser.zero_grad(set_to_none=True)
    return round(times[len(times) // 2], 2)


def _forward_backward(
    model: HGRNBitForCausalLM, ids: torch.Tensor, targets: torch.Tensor, losses: list[torch.Tensor]
) -> None:
    with torch.autocast("cuda", dtype=torch.bfloat16):
        loss = model.loss(ids, targets)
    loss.backward()
    losses.append(loss.detach())


def _profile(model: HGRNBitForCausalLM, optimiser: torch.optim.Optimizer, batch: int, tokens: int, path: Path) -> None:
    ids = torch.randint(0, model.config.vocab_size, (batch, tokens), device="cuda")
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CUDA]) as profiler:
        _forward_backward(model, ids, ids, [])
        optimiser.step()
        torch.cuda.synchronize()
    optimiser.zero_grad(set_to_none=True)
    path.write_text(profiler.key_averages().table(sort_by="cuda_time_total", row_limit=40, max_name_column_width=90))


if __name__ == "__main__":
    run(main)
