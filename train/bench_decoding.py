"""One token at a time from packed weights: tokens a second, bytes, bandwidth and joules, against the plain model.

    python -m tritape.train.bench_decoding --json benchmarks/train/decoding.json

Weights are random (speed does not depend on them). The packed model runs in one kernel for many tokens, greedy sampling
included; the plain model is `HGRNBitForCausalLM.step` with float16 parameters, a token a call, and quantises its weights
in each. Joules are NVML's counter of the whole card over at least two seconds; bandwidth counts every packed matrix and
gain once a token.
"""

from __future__ import annotations

import gc
import time
from pathlib import Path
from typing import Annotated, Any

import torch
import typer

from tritape.train.bench import SHAPES, Results, milliseconds, run
from tritape.train.model import HGRNBitForCausalLM
from tritape.train.packed.decode import Decoder
from tritape.train.packed.model import PackedModel
from tritape.train.packed.shares import WARPS


def main(
    shapes: Annotated[str, typer.Option(help="shapes to measure, comma-separated")] = "370M,1.3B,2.7B",
    seconds: Annotated[float, typer.Option(help="least time of the measured run")] = 2.0,
    plain: Annotated[bool, typer.Option(help="measure the plain model too")] = True,
    warps: Annotated[int, typer.Option(help="warps of a block that compute")] = WARPS,
    json: Annotated[Path | None, typer.Option(help="write the figures here")] = None,
) -> None:
    """Measure each shape and print its figures."""
    results = Results(json)
    results.add("copy_tb_s", round(_copy_rate() / 1e12, 3))
    for shape in shapes.split(","):
        torch.manual_seed(0)
        with torch.device("cuda"):
            model = HGRNBitForCausalLM(SHAPES[shape]).requires_grad_(False)
        fp32 = sum(p.numel() * p.element_size() for p in model.parameters())
        torch.cuda.synchronize()
        packed = PackedModel(model)
        figures: dict[str, Any] = {"plain_fp32_mb": round(fp32 / 1e6, 1), "plain_fp16_mb": round(fp32 / 2e6, 1)}
        if plain:
            figures |= _plain(model.half(), seconds)
        del model
        gc.collect()
        torch.cuda.empty_cache()
        decoder = Decoder(packed, warps)
        figures |= _packed(packed, decoder, seconds, results.values["copy_tb_s"] * 1e12)
        figures["times_smaller_than_fp32"] = round(figures["plain_fp32_mb"] / figures["packed_mb"], 2)
        figures["times_smaller_than_fp16"] = round(figures["plain_fp16_mb"] / figures["packed_mb"], 2)
        results.add(shape, figures)


def _packed(model: PackedModel, decoder: Decoder, seconds: float, copy_rate: float) -> dict[str, Any]:
    decoder.generate([1], 32)
    count = 256
    rate, joules = _rate(lambda: decoder.generate([1], count), count, seconds)
    once = model.nbytes - model.embedding.numel() - 4 * model.embedding_scale.numel()
    launch = milliseconds(lambda: decoder.advance(0, 64), 11)[5]
    return {
        "packed_mb": round((model.nbytes + 4 * decoder.state.numel()) / 1e6, 1),
        "tokens_s": round(rate, 1),
        "joules_token": joules,
        "token_us": round(1e3 * launch / 64, 1),
        "bytes_s_of_datasheet_3.35e12": round(once * rate / 3.35e12, 3),
        "bytes_s_of_copy": round(once * rate / copy_rate, 3),
    }


def _plain(model: HGRNBitForCausalLM, seconds: float) -> dict[str, Any]:
    token = torch.ones(1, 1, dtype=torch.long, device="cuda")
    states = None
    with torch.no_grad(), torch.autocast("cuda", torch.float16):

        def run() -> None:
            nonlocal states
            for _ in range(4):
                logits, states = model.step(token, states)
                token.copy_(logits[:, -1:].argmax(-1))

        run()
        rate, joules = _rate(run, 4, seconds)
    return {"plain_tokens_s": round(rate, 1), "plain_joules_token": joules}


def _rate(run: Any, tokens: int, seconds: float) -> tuple[float, float | None]:
    """Tokens a second and joules a token of `run`, which makes `tokens`, over at least `seconds`."""
    torch.cuda.synchronize()
    before, start, made = _joules(), time.perf_counter(), 0
    while time.perf_counter() - start < seconds:
        run()
        torch.cuda.synchronize()
        made += tokens
    elapsed, after = time.perf_counter() - start, _joules()
    return made / elapsed, None if before is None or after is None else round((after - before) / made, 4)


def _joules() -> float | None:
    """The card's energy counter, None where NVML or the counter is missing."""
    try:
        import pynvml

        pynvml.nvmlInit()
        return pynvml.nvmlDeviceGetTotalEnergyConsumption(pynvml.nvmlDeviceGetHandleByIndex(0)) / 1e3
    except Exception:
        return None


def _copy_rate() -> float:
    """Bytes a second of a large copy on the card, read and written."""
    source = torch.empty(1 << 30, dtype=torch.uint8, device="cuda")
    target = torch.empty_like(source)
    return 2 * source.numel() / (milliseconds(lambda: target.copy_(source), 11)[5] / 1e3)


if __name__ == "__main__":
    run(main)
