"""The host's `Device` over AXI4-Lite registers, the tape behind AXI4 ports: tokens and logits bit for bit."""

from __future__ import annotations

import base64

import pytest
from cocotb_runner import run_cocotb
from small_board import golden
from test_hw_accelerator import odd

from tritape.host.transport.registers import stripes
from tritape.hw.axi_accelerator import AXIAccelerator, port_bytes
from tritape.hw.config import Config
from tritape.model.golden import IntegerModel
from tritape.model.tape.assembler import image

pytestmark = pytest.mark.slow

PORTS, PORT_BITS = 2, 64
BASES = [[0x10000, 0x7_FFFF_F000], [0x4000_0000, 0x20000]]


def test_two_sessions() -> None:
    """The first session writes the tape over the registers, the second finds it in other memory, put there directly."""
    model = odd()
    config = Config(groups=16, engines=2, max_hidden=64, max_intermediate=128, max_layers=1, max_vocab=128, max_rows=64)
    data = image(model, config.groups, config.max_rows, config.engines)
    words = len(data) // config.word_bytes + 3
    prompt, count = [5, 96], 3
    size = port_bytes(words * config.word_bytes, PORTS, PORT_BITS)
    job = {
        "bases": BASES, "port_bytes": size, "image": base64.b64encode(data).decode(), "prompt": prompt, "count": count,
    }  # fmt: skip
    unit = AXIAccelerator(config, words, ports=PORTS, port_bits=PORT_BITS)
    answers = run_cocotb(unit, "cocotb_axi_accelerator", job, "verilator")
    run = IntegerModel(model)
    logits = [run.step(token) for token in prompt][-1]
    lines = stripes(data, PORTS, PORT_BITS // 8)
    for number, answer in enumerate(answers):
        assert answer["tokens"] == golden(model, prompt, count)
        assert answer["logits"] == [int(value) for value in logits.reshape(-1)]
        assert answer["counters"]["crc_errors"] == 0
        assert (answer["written"] > 0, answer["checked"] > 0) == (number == 0, True)
        memory = [base64.b64decode(part) for part in answer["memory"]]
        assert [part[: len(line)] for part, line in zip(memory, lines)] == lines
