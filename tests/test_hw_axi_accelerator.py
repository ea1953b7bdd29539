"""The host's `Device` over AXI4-Lite registers, the tape behind AXI4 ports: tokens and logits bit for bit."""

from __future__ import annotations

import base64

import pytest
from cocotb_runner import run_cocotb
from small_board import golden

from tritape.host.transport.registers import stripes
from tritape.hw.axi_accelerator import AXIAccelerator, port_bytes
from tritape.hw.config import Config
from tritape.model.checkpoint import random_checkpoint
from tritape.model.config import ModelConfig
from tritape.model.formats import quantise_model
from tritape.model.golden import IntegerModel
from tritape.model.quantised import QuantisedModel
from tritape.model.tape.assembler import image

pytestmark = pytest.mark.slow

PORTS, PORT_BITS = 2, 64
BASES = [[0x10000, 0x7_FFFF_F000], [0x4000_0000, 0x20000]]


def model() -> QuantisedModel:
    shape = ModelConfig(vocab_size=40, hidden_size=40, num_hidden_layers=1, intermediate_size=24)
    return quantise_model(random_checkpoint(shape, seed=3), ids=list(range(24)))


@pytest.mark.long
def test_two_sessions() -> None:
    """Each has memory of its own: some of it written and read over the registers, then a tape put there directly."""
    made = model()
    config = Config(groups=6, engines=2, max_hidden=64, max_intermediate=64, max_layers=1, max_vocab=64, max_rows=64)
    data = image(made, config.groups, config.max_rows, config.engines)
    words, some = len(data) // config.word_bytes + 3, 25 * config.word_bytes
    prompt, count = [5, 39], 2
    size = port_bytes(words * config.word_bytes, PORTS, PORT_BITS)
    job = {
        "bases": BASES, "port_bytes": size, "image": base64.b64encode(data).decode(), "some": some, "prompt": prompt,
        "count": count,
    }  # fmt: skip
    unit = AXIAccelerator(config, words, ports=PORTS, port_bits=PORT_BITS)
    answers = run_cocotb(unit, "cocotb_axi_accelerator", job, "verilator")
    run = IntegerModel(made)
    logits = [run.step(token) for token in prompt][-1]
    at_word_1 = stripes(bytes(config.word_bytes) + data[:some], PORTS, PORT_BITS // 8)
    assert len(answers) == len(BASES)
    for answer in answers:
        assert answer["written"] == [part.ljust(size, b"\0").hex() for part in at_word_1]
        assert answer["back"] == data[:some].hex()
        assert "WRITE" not in answer["kinds"]
        assert answer["kinds"].count("CHECK") == 1
        assert answer["tokens"] == golden(made, prompt, count)
        assert answer["logits"] == [int(value) for value in logits.reshape(-1)]
        assert (answer["errors"], answer["state"]) == (0, 0)


def test_stripes_and_pages() -> None:
    assert stripes(bytes(range(7)), 2, 2) == [bytes([0, 1, 4, 5]), bytes([2, 3, 6, 0])]
    assert stripes(b"", 2, 2) == [b"", b""]
    assert port_bytes(1, 4, 128) == 4096
    assert port_bytes(4 * 4096 + 1, 4, 128) == 8192
