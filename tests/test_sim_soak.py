"""Twenty seconds of the soak that `make soak` does for hours, and that it can fail."""

from __future__ import annotations

import pytest
from small_board import SMALL, small_model

from tritape.model import arith
from tritape.sim import soak as soak_module
from tritape.sim.soak import soak

pytestmark = [pytest.mark.slow]


def test_twenty_seconds() -> None:
    result = soak(20, seed=1, shape=SMALL, model=small_model(64))
    assert result["failure"] is None
    assert result["tokens"] > 20
    assert len(result["done"]) > 1
    assert len(result["board_bytes_by_quarter"]) == 4


def test_a_wrong_token_ends_it(monkeypatch: pytest.MonkeyPatch) -> None:
    choose = arith.choose
    monkeypatch.setattr(soak_module.arith, "choose", lambda *values: (choose(*values)[0] ^ 1, choose(*values)[1]))
    with pytest.raises(soak_module.WrongError, match=r"^token 1 must be \d+, not \d+$"):
        soak(5, seed=1, shape=SMALL, model=small_model(64))
