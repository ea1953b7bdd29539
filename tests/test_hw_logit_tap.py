"""Logit tap: all elements pass; with the tap open each waits until the one before was taken."""

import pytest

from tritape.hw.stream.logit_tap import LogitTap
from tritape.sim.bench import SIMULATORS, check_streams

VALUES = [0, -131072, 131071, 5, -1, 77, 78, 79]


@pytest.mark.parametrize("simulator", SIMULATORS)
@pytest.mark.parametrize("enable", [0, 1])
def test_tap(simulator: str, enable: int):
    check_streams(
        LogitTap(),
        inputs={"source": VALUES},
        expected={"sink": VALUES, "logits": VALUES if enable else []},
        statics={"enable": enable},
        simulator=simulator,
    )
