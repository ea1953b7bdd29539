"""`tritape verilog --bench`: a cocotb testbench beside the Verilog, for people to begin their own from.

`test_NAME.py` is `cocotb_template.py` with another name: it stands alone. `NAME_bench.v` is the core with a memory, since
Verilator hides names with double underscores from cocotb, and since a memory in Verilog is fast. `NAME_bench.json` is what it
runs: the tape of a random model within the limits of the configuration, a prompt, and the tokens of the golden model.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np

from tritape.hw.config import Config
from tritape.model.checkpoint import random_checkpoint
from tritape.model.config import ModelConfig
from tritape.model.formats import quantise_model
from tritape.model.golden import IntegerModel
from tritape.model.tape.assembler import image

TEMPLATE = Path(__file__).with_name("cocotb_template.py")
VOCABULARY, HIDDEN, INTERMEDIATE, LAYERS = 32, 16, 24, 2
"""Largest sizes of the random model."""
PROMPT = [1, 7, 3]
TOKENS = 5


def bench_names(name: str) -> list[str]:
    """The files of `bench_files`."""
    return [f"test_{name}.py", f"{name}_bench.v", f"{name}_bench.json"]


def bench_files(description: dict[str, Any], config: Config) -> dict[str, str]:
    """Names and texts of the files, for a core that `tritape.rtl_gen.verilog.describe` described."""
    name = description["module"]
    data = _session(config)
    data |= {key: description[key] for key in ("protocol_version", "configuration_hash")}
    words = len(data["tape"]) // 2 // config.word_bytes
    texts = [
        TEMPLATE.read_text().replace("tritape.v", f"{name}.v").replace("tritape_bench", f"{name}_bench")
        .replace("test_tritape", f"test_{name}").replace("accelerator `tritape`", f"accelerator `{name}`")
        .replace('NAME = "tritape"', f'NAME = "{name}"'),
        bench_verilog(description, config.word_bytes, words),
        json.dumps(data, indent=2) + "\n",
    ]  # fmt: skip
    return dict(zip(bench_names(name), texts))


def _session(config: Config) -> dict[str, Any]:
    """Tape, prompt and tokens of a random model."""
    shape = ModelConfig(
        vocab_size=min(VOCABULARY, config.max_vocab),
        hidden_size=min(HIDDEN, config.max_hidden),
        num_hidden_layers=min(LAYERS, config.max_layers),
        intermediate_size=min(INTERMEDIATE, config.max_intermediate),
    )
    model = quantise_model(random_checkpoint(shape, seed=7), ids=list(range(min(8, shape.vocab_size))))
    golden, tokens = IntegerModel(model), [token % shape.vocab_size for token in PROMPT]
    for place in range(len(PROMPT) + TOKENS - 1):
        chosen = int(np.argmax(golden.step(tokens[place])))
        if place >= len(PROMPT) - 1:
            tokens.append(chosen)
    return {
        "word_bytes": config.word_bytes,
        "slots": config.batch,
        "prompt": tokens[: len(PROMPT)],
        "tokens": tokens[len(PROMPT) :],
        "tape": image(model, config.groups, config.max_rows, config.engines, config.weight_code).hex(),
    }


def bench_verilog(description: dict[str, Any], word_bytes: int, words: int) -> str:
    """Module `NAME_bench`: the core with a memory of `words` words, one a cycle; its other ports with plain names."""
    name, bits = description["module"], 8 * word_bytes
    places = max(1, (words - 1).bit_length())
    wired = {
        "clk": "clk",
        "rst": "rst",
        **{f"{way}__{part}": f"{way}_{part}" for way in ("rx", "tx") for part in ("payload", "valid", "ready")},
        "memory__requests__payload": "request",
        "memory__requests__valid": "request_valid",
        "memory__requests__ready": "!reading",
        "memory__words__payload": f"memory[address[{places - 1}:0]]",
        "memory__words__valid": "reading",
        "memory__words__ready": "word_ready",
        "memory__read_failed": "1'b0",
        "memory__write__payload": "write",
        "memory__write__valid": "write_valid",
        "memory__write__ready": "1'b1",
        "memory__write_failed": "1'b0",
        "restart": "restart",
        "running": "running",
        "fault": "fault",
    }
    ports = ",\n".join(f"    .{port['name']}({wired.get(port['name'], '')})" for port in description["ports"])
    return f"""\
`timescale 1ns / 1ps
// {name} with a memory of {words} words of {word_bytes} bytes that answers at once.
// For simulation, and to show what the ports want.
module {name}_bench (
  input wire clk, input wire rst,
  input wire [7:0] rx_payload, input wire rx_valid, output wire rx_ready,
  output wire [7:0] tx_payload, output wire tx_valid, input wire tx_ready,
  output wire running, output wire fault
);
  reg [{bits - 1}:0] memory [0:{words - 1}];
  reg [31:0] address = 0, left = 0;
  wire [63:0] request;
  wire [{bits + 31}:0] write;
  wire request_valid, word_ready, write_valid, restart;
  wire reading = left != 0;

  always @(posedge clk) begin
    if (write_valid) memory[write[{places - 1}:0]] <= write[{bits + 31}:32];
    if (rst || restart) left <= 0;
    else if (reading && word_ready) begin
      address <= address + 1;
      left <= left - 1;
    end else if (!reading && request_valid) begin
      address <= request[31:0];
      left <= request[63:32];
    end
  end

  {name} core (
{ports}
  );
endmodule
"""
