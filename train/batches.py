"""Which tokens each step sees: a pure function of recipe and step, so that a resumed run sees the same ones."""

from __future__ import annotations

import numpy as np

from tritape.base.errors import TritapeError


class Crops:
    """Sequences cut out of one long array of tokens, every token once an epoch, in another order each epoch.

    Epoch e shifts the grid of cuts by a random phase and permutes the cuts; `starts(step)` gives int64 [batch]. Two
    objects of equal arguments agree. Raises TritapeError when the tokens do not fill one batch.
    """

    def __init__(self, tokens: int, sequence: int, batch: int, seed: int) -> None:
        self.tokens, self.sequence, self.batch, self.seed = tokens, sequence, batch, seed
        self.count = (tokens - 1) // sequence - 1  # cuts an epoch, whatever the phase
        if self.count < batch:
            raise TritapeError(
                f"corpus must hold {(batch + 1) * sequence + 1} tokens for one batch, not {tokens}; "
                "give more text or a smaller batch"
            )
        self._epoch = -1
        self._order = np.empty(0, np.int64)

    def starts(self, step: int) -> np.ndarray:
        """First token of each sequence of a step."""
        places = np.arange(step * self.batch, (step + 1) * self.batch)
        out = np.empty(self.batch, np.int64)
        for epoch in np.unique(places // self.count):
            inside = places // self.count == epoch
            out[inside] = self._cuts(int(epoch))[places[inside] % self.count]
        return out

    def _cuts(self, epoch: int) -> np.ndarray:
        if epoch != self._epoch:
            rng = np.random.default_rng((self.seed, epoch))
            phase = int(rng.integers(self.sequence))
            self._order = phase + self.sequence * rng.permutation(self.count)
            self._epoch = epoch
        return self._order
