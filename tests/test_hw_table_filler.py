"""The script of the table fillers."""

from __future__ import annotations

import numpy as np

from tritape.hw.engine.table_filler import STEPS
from tritape.model.codes.ternary5 import TERNARY5, walk


def test_walk_visits_every_magnitude_once_by_single_additions() -> None:
    steps = walk()
    assert len(steps) == STEPS == 122
    assert steps[0] == (0, 0, 0)
    assert sorted(v for v, _, _ in steps) == list(range(STEPS))
    trits = TERNARY5.decode(np.array([v for v, _, _ in steps], dtype=np.uint8))
    for (_, digit, sign), change in zip(steps[1:], np.diff(trits, axis=0)):
        assert abs(sign) == 1
        assert list(np.flatnonzero(change)) == [digit]
        assert change[digit] == sign
