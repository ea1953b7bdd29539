"""The chosen design point: fast enough for the bars, within the part, and never worse than one that was not chosen."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from tritape.base.errors import TritapeError
from tritape.cli import app, register
from tritape.model.codes import SPARSE4
from tritape.model.config import ModelConfig
from tritape.rtl_gen.choose import LUT_SHARE, TOLERANCE, WIDEST, candidates, choose, point
from tritape.rtl_gen.estimate import PUBLISHED
from tritape.rtl_gen.parts import PARTS

SMALL = ModelConfig(vocab_size=512, hidden_size=128, num_hidden_layers=2, intermediate_size=384)
register()


def test_kv260() -> None:
    """The bar of 370M on a KV260 with E and G chosen by the tool; nothing that fits is faster by more than the tolerance."""
    chosen = choose(PUBLISHED["370m"], PARTS["xck26"], 250e6, 16e9)
    assert chosen.best.fits
    assert chosen.best.roofline >= 0.94
    assert chosen.best.rate >= 220
    assert all(other.fits for other, _ in chosen.others)
    assert max(other.rate for other, _ in chosen.others) <= chosen.best.rate / (1 - TOLERANCE)
    assert all(a.rate >= b.rate for (a, _), (b, _) in zip(chosen.others, chosen.others[1:]))


def test_no_candidate_is_better_than_the_chosen_one() -> None:
    """Every candidate of a small shape estimated: pruning lost none."""
    part, clock, bandwidth = PARTS["ecp5-25"], 50e6, 0.8e9
    chosen = choose(SMALL, part, clock, bandwidth, read_ahead=4096, latency=20)
    every = [point(SMALL, config, part, clock, bandwidth, 4096, 20) for config in candidates(SMALL, bandwidth / clock)]
    assert len(every) > chosen.points > 1
    fastest = max(made.rate for made in every if made.fits)
    assert chosen.best.rate >= fastest * (1 - TOLERANCE)
    use = {made.name: max(made.share["luts"] / LUT_SHARE, made.share["brams"], made.share["dsps"]) for made in every}
    as_fast = [made for made in every if made.fits and made.rate >= fastest * (1 - TOLERANCE)]
    assert use[chosen.best.name] == min(use[made.name] for made in as_fast)


def test_candidates() -> None:
    made = list(candidates(SMALL, 16.0))
    assert len(set(made)) == len(made)
    assert {config.engines for config in made} == {1, 2, 4, 5, 3}
    assert max(config.word_bytes for config in made) == WIDEST * 16
    assert {config.tables_per_filler for config in made} == {1, 2, 4, 8}


def test_a_part_that_is_too_small_limits() -> None:
    chosen = choose(PUBLISHED["370m"], PARTS["ecp5-45"], 50e6, 1.6e9)
    assert chosen.larger is not None
    assert chosen.larger.rate > chosen.best.rate * (1 + TOLERANCE)
    assert chosen.why.startswith(f"area: {chosen.larger.name} would be ")
    with pytest.raises(
        TritapeError, match=r"part must hold an accelerator of this shape, not ecp5-25: the smallest needs \d+%"
    ):
        choose(PUBLISHED["370m"], PARTS["ecp5-25"], 50e6, 1.6e9)


def test_command(tmp_path: Path) -> None:
    out, again = tmp_path / "chosen.json", tmp_path / "estimate.json"
    command = ["choose", "370m", "--bandwidth", "1.28e9", "--clock", "80e6", "--part", "ecp5-85", "--json", str(out)]
    result = CliRunner().invoke(app, command)
    assert result.exit_code == 0, result.output
    value = json.loads(out.read_text())
    assert value["chosen"]["share"]["brams"] <= 1
    assert value["why"] in result.output
    estimate = value["command"].split()[1:]
    assert CliRunner().invoke(app, [*estimate, "--json", str(again)]).exit_code == 0
    estimated = json.loads(again.read_text())
    for name in ("tokens_per_second", "roofline_fraction", "luts_estimated", "block_rams", "dsps"):
        assert estimated[name] == value["chosen"][name]
    error = CliRunner().invoke(app, [*command[:6], "--part", "xc7"]).exception
    assert str(error).startswith("part must be one of ecp5-25, ")


def test_choose_in_another_code() -> None:
    """3:4 weights: more than the 275 tokens a second asked for, tables in LUT RAM, which a LUT6 has cheaply."""
    chosen = choose(PUBLISHED["370m"], PARTS["xck26"], 250e6, 16e9, code=SPARSE4)
    assert chosen.best.rate >= 275
    assert chosen.best.config.code == "sparse4"
    assert not chosen.best.config.block_tables
    assert chosen.best.name == "E=4 G=20 F=4"
    block = next(point for point, _ in chosen.others if point.name == "E=4 G=20 F=4, tables in block RAM")
    assert block.cost.brams == chosen.best.cost.brams + 128
