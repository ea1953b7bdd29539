"""Whole tokens of 3:4 models in `sparse4` through the RTL: bit for bit, and the cycle model against them."""

from __future__ import annotations

import pytest

from tritape.base.errors import TritapeError
from tritape.host.device import Device
from tritape.hw.config import Config
from tritape.hw.tape.header import Fault
from tritape.model.checkpoint import random_checkpoint
from tritape.model.codes import SPARSE4
from tritape.model.config import ModelConfig
from tritape.model.formats import quantise_model
from tritape.model.tape.assembler import image
from tritape.sim.generate import RETRY_S, Simulation
from tritape.sim.perf import measure

ODD = ModelConfig(vocab_size=67, hidden_size=51, num_hidden_layers=2, intermediate_size=43)


@pytest.mark.slow
@pytest.mark.parametrize(
    "fields",
    [
        {"groups": 10, "engines": 2},
        pytest.param({"groups": 5, "block_tables": True}, marks=pytest.mark.long),
        pytest.param({"groups": 20, "engines": 4, "tables_per_filler": 8}, marks=pytest.mark.long),
        pytest.param({"groups": 5, "serial": True, "block_tables": True}, marks=pytest.mark.long),
        pytest.param({"groups": 5, "batch": 2}, marks=pytest.mark.long),
    ],
    ids=lambda fields: "-".join(str(value) for value in fields.values()),
)
def test_tokens_are_exact(fields: dict[str, int]) -> None:
    """No size is a multiple of four or of the engines. A tape in the other code is refused by the fabric too."""
    limits = {"max_hidden": 56, "max_intermediate": 60, "max_layers": 2, "max_vocab": 80, "max_rows": 128}
    config = Config(code="sparse4", **{**limits, **fields})  # type: ignore[arg-type]
    model = quantise_model(random_checkpoint(ODD, seed=0, sparse4=True), ids=[1, 2, 3, 4])
    with Simulation(config) as simulation:
        tokens = [[5 + slot for slot in range(config.batch)], [66 - slot for slot in range(config.batch)]]
        result = measure(simulation, model, tokens)
        assert result["bit_exact"], result["difference"]
        assert result["crc_errors"] == 0
        simulation.set_memory(image(model, config.groups, 128, config.engines), config.word_bytes)
        with pytest.raises(TritapeError, match=rf"version and weight code .* \(fault {Fault.VERSION.value}\)$"):
            Device(simulation, retry_s=RETRY_S).boot()


@pytest.mark.slow
@pytest.mark.long
def test_cycle_model() -> None:
    """Within 1 % for three shapes; the share of its own roofline that docs/tape.md gives for a model on chip."""
    shapes = [ModelConfig(512, 128, 4, 576), ModelConfig(512, 148, 4, 444), ModelConfig(2048, 512, 1, 1408)]
    config = Config.for_model(shapes[0], 10, engines=2, code=SPARSE4.name)
    with Simulation(config) as simulation:
        for shape in shapes:
            model = quantise_model(random_checkpoint(shape, seed=0, sparse4=True), ids=[1, 2, 3, 4])
            result = measure(simulation, model, [[5], [9]])
            assert result["bit_exact"], result["difference"]
            assert abs(result["estimate_error"]) < 0.01
            assert shape is not shapes[0] or result["roofline_fraction"] >= 0.7
