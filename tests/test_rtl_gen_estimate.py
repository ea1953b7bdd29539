"""Estimate: quick, consistent, and within what synthesis and RTL gave (cycles against RTL: tests/test_sim_generate.py)."""

from __future__ import annotations

import time

import pytest

from tritape.hw.config import Config
from tritape.model.config import ModelConfig
from tritape.model.tape.layout import ideal_cycles, program
from tritape.rtl_gen.estimate import PUBLISHED, estimate_tokens, token_cycles


@pytest.mark.parametrize("shape", PUBLISHED)
def test_published_shapes(shape: str):
    """A second of the processor is enough; parts add up to the whole; no part of the roofline is exceeded."""
    started = time.process_time()
    config = Config.for_model(PUBLISHED[shape], 16)
    result = estimate_tokens(PUBLISHED[shape], config, 100e6, None)
    assert time.process_time() - started < 1.0
    assert 0.9 < result["roofline_fraction"] < 1
    assert sum(result["cycles"].values()) == pytest.approx(result["cycles_per_token"], rel=1e-3)
    assert result["tokens_per_second"] == pytest.approx(100e6 / result["cycles_per_token"], rel=1e-6)
    assert result["tape_bytes"] > result["ternary_weights"] / 5


def test_slow_memory_is_what_limits():
    """Half the bytes a cycle: about half the rate, and the memory is named."""
    config = Config.for_model(PUBLISHED["370m"], 16)
    full = estimate_tokens(PUBLISHED["370m"], config, 100e6, None)
    half = estimate_tokens(PUBLISHED["370m"], config, 100e6, 0.8e9)
    assert half["limited_by"] == "memory"
    assert half["tokens_per_second"] == pytest.approx(full["tokens_per_second"] / 2, rel=0.05)
    assert half["roofline_fraction"] > full["roofline_fraction"]


def test_reading_ahead_keeps_a_wide_engine_fed():
    """HBM at 460 GB/s, 2.7B, E = 16, G = 128: the row of benchmarks/memory_bars.py. Without reading ahead every wait is the
    memory's too; latency is paid once a token."""
    shape = PUBLISHED["2.7b"]
    config = Config.for_model(shape, 128, engines=16).limited_to(shape)
    still = estimate_tokens(shape, config, 300e6, 460e9)
    ahead = estimate_tokens(shape, config, 300e6, 460e9, 1 << 20, 120)
    assert ahead["roofline_fraction"] >= 0.90
    assert ahead["tokens_per_second"] >= 790
    assert still["roofline_fraction"] < 0.85
    later = estimate_tokens(shape, config, 300e6, 460e9, 1 << 20, 220)
    assert later["cycles_per_token"] == pytest.approx(ahead["cycles_per_token"] + 100, abs=1)


def test_padding_is_named_with_the_cure():
    """hidden 1024 needs four tiles of 320 but also only four of 260; the padding is that of the assembled tape."""
    shape = PUBLISHED["370m"]
    result = estimate_tokens(shape, Config.for_model(shape, 64), 100e6, None)
    assert result["limited_by"] == "padding to tiles of 320; G = 52 pads 1.5%"
    _, body = program(shape, 64, 1024)
    assert result["padding"] == pytest.approx(1 - ideal_cycles(shape, 64) / sum(s.payload for s in body if s.rows))


def test_words_wider_than_a_line_do_not_catch_up():
    """Four AXI ports of 128 bits: lines of 64 bytes. In RTL E = 5, G = 15 took 1,135,295 cycles (memory_bars.py
    kv260-370m-wider)."""
    shape = PUBLISHED["370m"]
    wide = Config.for_model(shape, 15, engines=5)
    still = estimate_tokens(shape, wide, 250e6, 16e9)["cycles_per_token"]
    ahead = estimate_tokens(shape, wide, 250e6, 16e9, 512 * 64, 109)["cycles_per_token"]
    assert ahead == pytest.approx(still + 109, abs=2)
    assert ahead == pytest.approx(1_135_295, rel=0.01)
    assert estimate_tokens(shape, wide, 250e6, 16e9, 512 * 64, 109, 128)["cycles_per_token"] < 0.98 * ahead


# Cycles of a token in RTL (`tritape perf` with an ideal memory; docs/tape.md, benchmarks/perf-NAME.json)
MEASURED = [
    ("sparse4", 10, 1, (512, 128, 4, 576), 23_598),
    ("sparse4", 10, 1, (512, 148, 4, 444), 27_664),
    ("sparse4", 10, 1, (2048, 1024, 1, 2816), 238_381),
    ("sparse4", 10, 2, (512, 128, 4, 576), 13_094),
    ("sparse4", 10, 2, (512, 128, 4, 640), 13_909),
    ("sparse4", 20, 2, (512, 128, 4, 640), 9_682),
    ("sparse4", 10, 2, (512, 148, 4, 444), 15_038),
    ("ternary5", 16, 1, (97, 40, 1, 65), 1_957),
    ("ternary5", 16, 1, (256, 64, 2, 256), 5_711),
    ("ternary5", 16, 1, (512, 128, 4, 512), 23_070),
    ("ternary5", 16, 1, (1000, 320, 1, 800), 21_062),
    ("ternary5", 16, 1, (2048, 1024, 1, 2816), 194_786),
    ("ternary5", 16, 4, (32000, 1024, 4, 2816), 277_299),
]


@pytest.mark.parametrize(("code", "groups", "engines", "shape", "cycles"), MEASURED)
def test_recorded_cycles(code: str, groups: int, engines: int, shape: tuple[int, int, int, int], cycles: int) -> None:
    """A tenth of a percent: what is left is how long maxima take to normalise, and the token's two ends."""
    model = ModelConfig(*shape)
    config = Config.for_model(model, groups, engines=engines, code=code)
    assert token_cycles(model, config)[0] == pytest.approx(cycles, rel=1e-3)
