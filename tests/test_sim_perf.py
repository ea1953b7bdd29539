"""Tokens of the fast simulation with memories behind the accelerator: bit for bit, and the cycle model against them."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
from typer.testing import CliRunner

from tritape import cli
from tritape.base.errors import TritapeError
from tritape.hw.config import Config
from tritape.model.checkpoint import random_checkpoint
from tritape.model.config import ModelConfig
from tritape.model.formats import quantise_model
from tritape.model.tape.assembler import image
from tritape.rtl_gen.estimate import PUBLISHED, estimate_tokens, token_cycles
from tritape.sim.fast.memory import Memory
from tritape.sim.generate import Generator, Simulation
from tritape.sim.perf import measure

SHAPE = ModelConfig(vocab_size=64, hidden_size=64, num_hidden_layers=1, intermediate_size=128)
CONFIG = Config(groups=8, max_hidden=64, max_intermediate=128, max_layers=1, max_vocab=128, max_rows=512)


@pytest.mark.slow
@pytest.mark.parametrize(
    "memory",
    [
        Memory("axi", ports=2, port_bits=32, latency=40, jitter=15),
        pytest.param(Memory("axi", ports=1, port_bits=128, latency=200, jitter=100, limit=3.5), marks=pytest.mark.long),
        Memory("qspi"),
        pytest.param(Memory("litedram-sdr"), marks=pytest.mark.long),
    ],
    ids=lambda memory: f"{memory.kind}-{memory.ports}",
)
def test_tokens_through_a_memory(memory: Memory) -> None:
    """All logits are right, no section is damaged, and no token is faster than the memory can be."""
    if memory.kind.startswith("litedram"):
        pytest.importorskip("litedram", reason="pip install 'tritape[litedram]'")
    model = quantise_model(random_checkpoint(SHAPE, seed=0), ids=[1, 2, 3, 4])
    with Simulation(CONFIG, memory=memory, image_bytes=len(image(model, 8, 512))) as simulation:
        generator = Generator(simulation, model, 8, max_rows=512)
        assert [generator.feed(token).difference for token in (5, 0, 63)] == [None] * 3
        counters = generator.device.counters()
    assert counters["crc_errors"] == counters["fault_code"] == 0
    assert counters["tokens"] == 3
    least = estimate_tokens(SHAPE, CONFIG, 1.0, None)["tape_bytes"] / memory.peak(8)
    assert counters["running"] / 3 >= 0.99 * least


@pytest.mark.slow
@pytest.mark.parametrize(
    "memory",
    [
        pytest.param(Memory("axi", ports=2, port_bits=16, limit=1.0), marks=pytest.mark.long),
        pytest.param(Memory("litedram-sdr"), marks=pytest.mark.long),
    ],
    ids=lambda memory: memory.kind,
)
def test_lanes_through_a_memory(memory: Memory) -> None:
    """Two tokens a pass over a memory that is what limits: every element of both is right, no section damaged, and steps of two
    sequences and of a prompt take what the cycle model says."""
    if memory.kind.startswith("litedram"):
        pytest.importorskip("litedram", reason="pip install 'tritape[litedram]'")
    shape = replace(
        SHAPE, hidden_size=128, intermediate_size=256
    )  # not too small: waits for the memory are modelled roughly
    model = quantise_model(random_checkpoint(shape, seed=0), ids=[1, 2, 3, 4])
    config = replace(CONFIG, max_hidden=128, max_intermediate=256, batch=2)
    with Simulation(config, memory=memory, image_bytes=len(image(model, 8, 512))) as simulation:
        result = measure(simulation, model, [[5, 0], [63, 7]])
    assert result["bit_exact"], result["difference"]
    assert result["crc_errors"] == 0
    assert result["stall_cycles"]["memory"] > 0.6 * result["measured_cycles"]
    assert abs(result["estimate_error"]) < 0.01
    assert abs(result["prompt_estimate_error"]) < 0.01


@pytest.mark.long
@pytest.mark.parametrize(
    ("config", "shapes"),
    [
        (Config(groups=20, engines=2, code="sparse4"), [(512, 128, 4, 640), (67, 51, 2, 43)]),
        (Config(groups=16, engines=2), [(512, 128, 2, 512), (64, 20, 1, 33)]),
    ],
    ids=lambda value: value.code if isinstance(value, Config) else "",
)
def test_short_lanes(config: Config, shapes: list[tuple[int, int, int, int]]) -> None:
    """Two engines, vectors of one or two tiles: what a row of a projection waits for is not hidden behind its stream. The first
    shape is `small-sparse` on its board."""
    with Simulation(config) as simulation:
        for sizes in shapes:
            checkpoint = random_checkpoint(ModelConfig(*sizes), seed=0, sparse4=config.code == "sparse4")
            result = measure(simulation, quantise_model(checkpoint, ids=[1, 2, 3, 4]), [[5], [9]])
            assert result["bit_exact"], result["difference"]
            assert abs(result["estimate_error"]) < 0.005, sizes


def test_reading_ahead_hides_waits() -> None:
    """An engine as fast as its memory gains nothing from a buffer; a faster one comes nearer to the memory's rate."""
    shape = PUBLISHED["370m"]
    same = Config.for_model(shape, 16, engines=4)
    assert token_cycles(shape, same)[0] == token_cycles(shape, same, buffer_words=512)[0]
    without, with_buffer = (token_cycles(shape, same, 1.25, buffer_words=words)[0] for words in (0, 512))
    words = estimate_tokens(shape, same, 1.0, None)["tape_bytes"] / 64
    assert 1.25 * words <= with_buffer < without - 24 * 4 * 100


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            ["--memory", "ddr5"],
            "memory must be one of ideal, axi, litedram-sdr, litedram-ddr3, qspi, not 'ddr5'; choose one",
        ),
        (
            ["--memory", "axi", "--ports", "64"],
            "ports must carry at most 256 bytes a cycle, not 64 of 128 bits; take fewer",
        ),
        (["--memory", "axi", "--latency", "-1"], "latency must be 0..10000 cycles, not -1; choose another"),
        (
            ["--memory", "qspi", "--bandwidth", "1e6"],
            "bandwidth must be left out for memory qspi, not 1000000.0; only axi",
        ),
        (["--clock", "0"], "clock and bandwidth must be positive, not 0.0 and None; give Hz and bytes a second"),
        (["--shape", "7b"], "shape must be a config.json or one of 370m, 1.3b, 2.7b, not '7b'; choose one of them"),
        (["--batch", "17"], "batch must be 1..16, and 1 with --serial, not 17; choose another number"),
        (["--batch", "2", "--serial"], "batch must be 1..16, and 1 with --serial, not 2; choose another number"),
        (["--shape", "370m", "--layers", "0"], "layers must be at least 1, not 0; choose another"),
    ],
)
def test_errors(arguments: list[str], message: str) -> None:
    cli.register()
    with pytest.raises(TritapeError) as caught:
        CliRunner().invoke(cli.app, ["perf", *arguments], catch_exceptions=False, standalone_mode=False)
    assert str(caught.value).startswith(message)


@pytest.mark.long
def test_whole_370m_token(tmp_path: Path) -> None:
    """Every logit of a 370M token over four AXI ports, in less than a minute on one core (compiling not counted)."""
    out = tmp_path / "perf.json"
    options = "--shape 370m --memory axi --ports 4 --clock 250e6 --bandwidth 16e9 --engines 4 --groups 16"
    cli.register()
    CliRunner().invoke(
        cli.app, ["perf", *options.split(), "--json", str(out)], catch_exceptions=False, standalone_mode=False
    )
    result = json.loads(out.read_text())
    assert result["bit_exact"]
    assert result["crc_errors"] == 0
    assert result["roofline_fraction"] >= 0.94
    assert abs(result["estimate_error"]) <= 0.01
    assert result["seconds_a_token"] < 60


@pytest.mark.parametrize(
    ("kind", "stall", "message"),
    [
        ("ideal", 1.0, "stall must be from 0 to less than 1, not 1.0; choose"),
        ("ideal", -0.1, "stall must be from 0 to less than 1, not -0.1; choose"),
        ("axi", 0.3, "stall must be 0 for memory axi, not 0.3; only ideal has one"),
    ],
)
def test_stalls_that_cannot_be(kind: str, stall: float, message: str):
    with pytest.raises(TritapeError, match=message):
        Memory(kind, stall=stall)
