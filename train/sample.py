"""Text from the integer golden model, without simulating hardware: what a card shows."""

from __future__ import annotations

import numpy as np

from tritape.base.errors import TritapeError
from tritape.model.checkpoint import Checkpoint
from tritape.model.formats import quantise_model
from tritape.model.golden import IntegerModel
from tritape.model.tokenizer import load_tokenizer


def sample(checkpoint: Checkpoint, prompt: str, tokens: int, temperature: float, seed: int) -> str:
    """The prompt and `tokens` sampled tokens. Equal arguments give equal text.

    Raises TritapeError when the prompt holds no token or the temperature is not positive.
    """
    if not temperature > 0:
        raise TritapeError(f"temperature must be positive, not {temperature!r}; choose about 0.7")
    codec = load_tokenizer(checkpoint)
    ids = codec.encode(prompt)
    if not ids:
        raise TritapeError(f"prompt must hold a token, not {prompt!r}; give some text")
    model, rng = IntegerModel(quantise_model(checkpoint)), np.random.default_rng(seed)
    logits = model.run(ids)[-1]
    for _ in range(tokens):
        scaled = (logits - logits.max()) / temperature
        chances = np.exp(scaled)
        ids.append(int(rng.choice(len(chances), p=chances / chances.sum())))
        logits = model.run([ids[-1]])[-1]
    return codec.decode(ids)
