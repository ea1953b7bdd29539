"""A small fault campaign: every class, the bars of the large one, and that it can tell a silent fault."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path

import pytest

from tritape.base.errors import TritapeError
from tritape.host.device import Device
from tritape.sim.faults import campaign
from tritape.sim.faults.campaign import Runner
from tritape.sim.faults.classes import OUTSIDE, Fault, classes
from tritape.sim.faults.session import RETRY_S, SILENCE_S
from tritape.sim.faults.simulation import Armed, Kind
from tritape.sim.faults.summary import summary, tables

pytestmark = [pytest.mark.slow]


@pytest.fixture(scope="module")
def runner() -> Iterator[Runner]:
    runner = Runner("pipelined", 1)
    yield runner
    runner.simulation.close()


def test_a_fault_of_every_class_is_told_or_harmless(runner: Runner) -> None:
    shares = [name for name, (share, _) in OUTSIDE.items() for _ in range(share)]
    numbers = [place for place, name in enumerate(shares) if place == 0 or shares[place - 1] != name]
    outcomes = [asdict(runner.run(number)) for number in numbers]
    assert [outcome["kind"] for outcome in outcomes] == list(OUTSIDE)
    result = summary(outcomes, design="pipelined", seed=1)
    assert result["violations"] == {"silent": [], "device_lost": [], "tape_not_in_time": []}
    assert result["bars"]["tape_flips_in_time_percent"] == 100
    assert Counter(outcome["outcome"] for outcome in outcomes)["detected"] > len(outcomes) // 3
    assert [table.title for table in tables(result)] == [
        "Tape, bus, link, resets, hosts (pipelined, seed 1)",
        "Memories inside the device (pipelined, seed 1)",
    ]


def test_the_same_number_is_the_same_fault(runner: Runner) -> None:
    assert runner.run(60).about == runner.run(60).about


def test_a_silent_fault_is_seen(runner: Runner, monkeypatch: pytest.MonkeyPatch) -> None:
    """A flipped bit of the recurrent state, which nothing detects: the campaign must say so."""
    numbers = [at for at, (name, _, _) in enumerate(runner.simulation.memories) if "states" in name]
    when = runner.clean.counts.cycles * 3 // 4
    fault = Fault("a state", Armed(Kind.POKE, when, numbers[0], 3, 16))
    monkeypatch.setattr(campaign, "draw", lambda *arguments: ("inside, state", fault))
    outcome = runner.run(0)
    assert (outcome.outcome, outcome.struck, outcome.recovered) == ("silent", True, True)


def test_every_memory_has_a_class(runner: Runner) -> None:
    _, inside = classes(runner.session)
    assert {"inside, state", "inside, gains", "inside, tables", "inside, constants", "inside, fill script"} <= set(
        inside
    )


def test_a_record_goes_on_where_it_was_cut(tmp_path: Path) -> None:
    path = tmp_path / "faults" / "record.jsonl"
    assert campaign._record(path, "a") == {}
    path.write_text(path.read_text() + json.dumps({"number": 4}) + '\n{"numb')
    assert campaign._record(path, "a") == {4: {"number": 4}}
    assert campaign._record(path, "b") == {}
    assert path.read_text() == '{"key": "b"}\n'


def test_a_state_is_not_saved_from_a_device_that_was_reset(runner: Runner) -> None:
    """It would be zeros; found by the campaign (a reset between a token and `save_state`)."""
    simulation, session = runner.simulation, runner.session
    simulation.set_memory(session.image)
    device = Device(simulation, retry_s=RETRY_S, silence_s=SILENCE_S)
    device.boot()
    device.feed([7])
    state = device.save_state()
    simulation.configure()
    with pytest.raises(TritapeError, match=r"^a tape must be booted before tokens are fed, not none; load one first$"):
        device.save_state()
    with pytest.raises(TritapeError, match=r"^a tape must be booted before tokens are fed"):
        device.restore_state(state)
