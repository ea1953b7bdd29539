"""The model that a server offers."""

from __future__ import annotations

from dataclasses import dataclass

from tritape.model.tokenizer import TextCodec


@dataclass(frozen=True)
class Served:
    """A model on a device. `sha256`, of its checkpoint, marks conversations; `sampler`: whether the bitstream can sample."""

    name: str
    codec: TextCodec
    vocab_size: int
    logit_fraction: int
    sha256: str
    slots: int = 1
    sampler: bool = True
