"""Slots and replicas on a card: the bars, a choice that nothing beats, what binds, and what the commands say."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
from typer.testing import CliRunner

from tritape.base.errors import TritapeError
from tritape.cli import app, register
from tritape.cli.estimate import model_shape
from tritape.hw.config import MAX_BATCH
from tritape.model.config import ModelConfig
from tritape.rtl_gen.choose import TOLERANCE
from tritape.rtl_gen.estimate import PUBLISHED, estimate_tokens
from tritape.rtl_gen.explore.evaluate import SOURCES, evaluate
from tritape.rtl_gen.explore.space import read_space
from tritape.rtl_gen.parts import PARTS
from tritape.rtl_gen.replicas import candidates, choose_replicas, replica_point, room
from tritape.rtl_gen.ultrascale import LIMITS, used

U250 = PARTS["xcu250"]
CLOCK, DDR4 = 300e6, 4 * 19.2e9
SMALL = ModelConfig(vocab_size=512, hidden_size=160, num_hidden_layers=2, intermediate_size=400)
register()


@pytest.mark.parametrize(
    ("model", "bandwidth", "rate", "stream"),
    [
        ("370m", DDR4, 10_000, 250),
        ("1.3b", DDR4, 2_600, 70),
        ("2.7b", DDR4, 1_250, 35),
        ("370m", 4 * 18e9, 10_000, 250),
        ("1.3b", 4 * 18e9, 2_600, 70),
        ("2.7b", 4 * 18e9, 1_250, 35),
    ],
)
def test_bars_of_the_u250(model: str, bandwidth: float, rate: float, stream: float) -> None:
    """The whole token loop, at the limits of area, with the memory's peak and with 18 GB/s a channel."""
    best = choose_replicas(PUBLISHED[model], U250, CLOCK, bandwidth, stream).best
    assert best.rate >= rate
    assert best.stream_rate >= stream
    assert best.rate == pytest.approx(best.stream_rate * best.replicas * best.config.batch)
    assert all(best.share[name] <= limit for name, limit in LIMITS.items())


def test_nothing_that_fits_is_faster() -> None:
    """Every candidate of a small shape with every number of slots and replicas, estimated."""
    chosen = choose_replicas(SMALL, U250, CLOCK, DDR4, stream_rate=100.0)
    every = [
        replica_point(SMALL, replace(config, batch=slots), replicas, U250, CLOCK, DDR4, 512 * 256, 100)
        for replicas in (1, 2, 4)
        for config in candidates(SMALL, DDR4 / replicas / CLOCK)
        for slots in (2, 8, MAX_BATCH)
    ]
    fastest = max(made.rate for made in every if made.fits)
    assert len(every) > 100
    assert chosen.best.rate >= fastest * (1 - TOLERANCE)
    assert all(a.rate >= b.rate for a, b in zip(chosen.others, chosen.others[1:]))
    assert chosen.best not in chosen.others


def test_a_point_is_its_estimate() -> None:
    """A replica has its share of the memory, of what is read ahead, and of the regions."""
    config = next(iter(candidates(SMALL, 64)))
    made = replica_point(SMALL, replace(config, batch=3), 4, U250, CLOCK, DDR4, 4096.0, 50)
    one = estimate_tokens(SMALL, replace(config, batch=3), CLOCK, DDR4 / 4, 1024.0, 50)
    assert made.rate == 4 * one["tokens_per_second"]
    assert made.stream_rate == pytest.approx(one["tokens_per_second"] / 3)
    assert room(U250, 4).brams * 4 == room(U250, 1).brams == U250.brams
    assert made.share["dsps"] == made.placed.cells.dsps / (U250.dsps // 4)


def test_what_binds_is_named() -> None:
    full = choose_replicas(PUBLISHED["370m"], replace(U250, luts=U250.luts // 2), CLOCK, DDR4, replicas=4).best
    there = room(replace(U250, luts=U250.luts // 2), 4)
    assert full.binding.startswith(f"LUT: T = {full.config.batch + 1} needs ")
    assert full.binding.endswith(", 65% may be used")
    assert used(full.placed.cells, there) <= 1
    many = replace(U250, luts=100 * U250.luts, brams=100 * U250.brams, dsps=100 * U250.dsps)
    assert choose_replicas(SMALL, many, CLOCK, DDR4).best.binding == "T: a replica has at most 16 slots"
    assert choose_replicas(SMALL, many, CLOCK, DDR4, batch=3).best.binding == "T: 3 was asked for"


def test_more_of_a_part_is_never_slower() -> None:
    rates = [
        choose_replicas(PUBLISHED["370m"], replace(U250, luts=luts), CLOCK, DDR4, replicas=4).best.rate
        for luts in (U250.luts // 3, U250.luts // 2, U250.luts)
    ]
    assert rates == sorted(rates)
    assert rates[0] < rates[-1]


def test_refusals() -> None:
    with pytest.raises(
        TritapeError, match=r"^stream rate must be at most \d+\.\d tokens a second on xcu250, not 1e\+06; ask for less$"
    ):
        choose_replicas(SMALL, U250, CLOCK, DDR4, 1e6)
    with pytest.raises(TritapeError, match=r"^batch must be 2\.\.16 for xcu250, not 17; choose another number$"):
        choose_replicas(SMALL, U250, CLOCK, DDR4, batch=17)
    with pytest.raises(TritapeError, match=r"^replicas must divide the 4 regions of xcu250, not 3; take a divisor$"):
        choose_replicas(SMALL, U250, CLOCK, DDR4, replicas=3)
    tiny = replace(U250, luts=4000)
    with pytest.raises(
        TritapeError, match=r"^part must hold replicas with 2 slots of this shape, not xcu250; choose a larger part or"
    ):
        choose_replicas(SMALL, tiny, CLOCK, DDR4)


def test_command(tmp_path: Path) -> None:
    out, again = tmp_path / "chosen.json", tmp_path / "estimate.json"
    command = ["choose", "tiny", "--part", "xcu250", "--bandwidth", "76.8e9", "--clock", "300e6", "--json", str(out)]
    result = CliRunner().invoke(app, [*command, "--stream-rate", "50", "--replicas", "4"])
    assert result.exit_code == 0, result.output
    value = json.loads(out.read_text())
    assert value["stream_rate"] == 50
    assert value["chosen"]["replicas"] == 4
    assert value["chosen"]["stream_tokens_per_second"] >= 50
    assert value["kind"] == "projected"
    assert "May be used: LUT 65%, LUT RAM 25%, block RAM 80%" in result.output.replace("\n", " ")
    estimate = value["command"].split()[1:]
    assert CliRunner().invoke(app, [*estimate, "--json", str(again)]).exit_code == 0
    one = json.loads(again.read_text())
    assert 4 * one["tokens_per_second"] == pytest.approx(value["chosen"]["tokens_per_second"])
    for option, message in (
        (["--stream-rate", "-1"], "stream-rate must not be negative, not -1.0; give tokens a second"),
        (["--replicas", "3"], "replicas must divide the 4 regions of xcu250, not 3; take a divisor"),
        (["--batch", "1"], "batch must be 2..16 for xcu250, not 1; choose another number"),
    ):
        assert str(CliRunner().invoke(app, [*command, *option]).exception) == message
    command[command.index("xcu250")] = "ecp5-85"
    error = CliRunner().invoke(app, [*command, "--batch", "0"]).exception
    assert str(error) == "batch must be an integer in 1..16, not 0; keep within that range"
    for option in ("stream-rate", "replicas"):
        error = CliRunner().invoke(app, [*command, f"--{option}", "2"]).exception
        assert str(error).startswith(f"{option} must be left out for ecp5-85, not 2")
        assert str(error).endswith("; slots and replicas are chosen for xcu250")


def test_explore_searches_slots_and_replicas(tmp_path: Path) -> None:
    """Three replicas cannot share four regions; a card's rows have what all replicas use, and the rate of a stream."""
    path = tmp_path / "space.toml"
    path.write_text(
        'model = "tiny"\nbandwidth = 76.8e9\n[space]\nengines = 4\ngroups = 16\nbatch = [2, 4]\nreplicas = [2, 3, 4]\n'
        'clock = 300e6\npart = "xcu250"\n'
    )
    space = read_space(path, model_shape)
    assert [(point["batch"], point["replicas"]) for point in space.points] == [(2, 2), (2, 4), (4, 2), (4, 4)]
    assert space.skipped == 2
    rows = [evaluate("estimate", point, SOURCES) for point in space.points]
    for point, row in zip(space.points, rows):
        streams = point["batch"] * point["replicas"]
        assert row["tokens_per_second"] == pytest.approx(streams * row["stream_tokens_per_second"])
        assert row["dsps"] == streams * (rows[0]["dsps"] // 4)
        assert row["fits"]
        assert row["binding"]
    assert rows[3]["luts"] > rows[2]["luts"] > rows[0]["luts"]
