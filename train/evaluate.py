"""Bits per byte of a text under a model: the sum of -log2 p(token) over the text's bytes, in float32."""

from __future__ import annotations

import math
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import nn

from tritape.train.model import HGRNBitForCausalLM
from tritape.train.tokenize import encode_cached

CHUNK = 4096
"""Tokens of a recurrent model that are computed at a time; the state goes on from chunk to chunk."""

WINDOWS = 64
"""Windows of a Transformer that are computed at a time."""


@torch.no_grad()
def bits_per_byte(model: nn.Module, tokenizer: Path, text: str, cache: Path, window: int) -> float:
    """A recurrent model reads the text once from start to end. A Transformer reads windows that overlap by half, and is
    charged for the half that has `window` / 2 tokens of context; the first token of a text is free."""
    device = next(model.parameters()).device
    ids = torch.from_numpy(encode_cached(tokenizer, text, cache).astype("int64")).to(device)
    total = torch.zeros((), dtype=torch.float64, device=device)
    if isinstance(model, HGRNBitForCausalLM):
        states = None
        for at in range(0, len(ids) - 1, CHUNK):
            part = ids[at : min(at + CHUNK, len(ids) - 1)]
            logits, states = model.step(part[None], states)
            total += F.cross_entropy(logits[0].float(), ids[at + 1 : at + 1 + len(part)], reduction="sum")
    else:
        half = window // 2
        total += F.cross_entropy(model(ids[None, :half])[0].float(), ids[1 : half + 1], reduction="sum")
        starts = range(0, len(ids) - 1 - half, half)
        whole = [at for at in starts if at + window < len(ids)]
        groups = [whole[i : i + WINDOWS] for i in range(0, len(whole), WINDOWS)] + [[at] for at in starts[len(whole) :]]
        for group in groups:
            end = min(group[0] + window, len(ids) - 1) - group[0]
            rows = torch.stack([ids[at : at + end + 1] for at in group])
            logits = model(rows[:, :-1])[:, half:].float()
            total += F.cross_entropy(logits.flatten(0, 1), rows[:, half + 1 :].flatten(), reduction="sum")
    return float(total) / math.log(2) / len(text.encode())
