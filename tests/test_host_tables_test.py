"""The test of constant tables against simulated gateware, whole and with a wrong entry."""

import dataclasses
from collections.abc import Iterator

import numpy as np
import pytest
from small_board import ONE_SLOT

from tritape.host.device import Device
from tritape.host.protocol import Identity
from tritape.host.tables_test import SPREAD, sweep_model, tables_test
from tritape.hw.link.commands import identity
from tritape.model import arith
from tritape.model.golden import IntegerModel, Trace
from tritape.sim.generate import RETRY_S, Simulation


def the_identity(**changes: int) -> Identity:
    return Identity.decode(identity(dataclasses.replace(ONE_SLOT, **changes), 1 << 16))


@pytest.mark.parametrize("hidden", [7, 64, 200])
def test_sweep_shows_sigma_bit_for_bit(hidden: int) -> None:
    """Two entries that differ in the last bit leave different states, and all of the table's range is asked for."""
    model = sweep_model(the_identity(max_hidden=hidden))
    asked = []
    for token in range(8):
        golden, trace = IntegerModel(model), Trace()
        golden.step(token, trace)
        (y,) = [values for unit, label, values in trace.entries if (unit, label) == ("value", "layers.0.f")]
        candidate = arith.silu(next(v for unit, label, v in trace.entries if (unit, label) == ("value", "layers.0.i")))
        assert candidate.min() >= 1 << 15
        sigma = arith.sigma(y)
        assert np.array_equal(golden.state[0], arith.recur(sigma, 0, candidate))
        assert (arith.recur(sigma + 1, 0, candidate) != golden.state[0]).all()
        asked.append(y)
    assert SPREAD / 2 < np.std(np.concatenate(asked)) / (1 << arith.PRE_FRACTION) < SPREAD * 2


@pytest.fixture(scope="module", params=[1, pytest.param(2, marks=pytest.mark.long)], ids=["E=1", "E=2"])
def simulation(request: pytest.FixtureRequest) -> Iterator[Simulation]:
    with Simulation(dataclasses.replace(ONE_SLOT, engines=request.param)) as simulation:
        yield simulation


@pytest.mark.slow
@pytest.mark.optimised
def test_good_tables_and_a_wrong_one(simulation: Simulation, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is wrong with the simulated fabric; an entry of the golden table that is changed is named."""
    device = Device(simulation, retry_s=RETRY_S)
    result = tables_test(device)
    assert result["wrong"] == []
    assert result["state_elements"] == 2 * 64
    assert result["sigma_entries"] > 900
    assert result["noise_entries"] > 500
    changed = arith.SIGMA.copy()
    changed[40] ^= 1
    monkeypatch.setattr(arith, "SIGMA", changed)
    (wrong,) = tables_test(device)["wrong"]
    assert (wrong["table"], wrong["place"]) == ("sigma", 40)
