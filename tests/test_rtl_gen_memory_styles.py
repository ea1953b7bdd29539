"""Where Vivado puts memories: attributes on those that are named, first contents only where they can be."""

from __future__ import annotations

import re

import pytest

from tritape.base.errors import TritapeError
from tritape.base.verilog_text import verilog_text
from tritape.hw.batch.slot import Slot
from tritape.hw.config import Config
from tritape.hw.engine.activation_memory import fillers
from tritape.rtl_gen.boards import board
from tritape.rtl_gen.boards.packages.memory_styles import styled

TEXT = """\
module \\top.first (clk);
  (* no_rw_check = 32'd1 *)
  reg [17:0] bank0 [3:0];
  initial begin
    bank0[0] = 18'h00000;
    bank0[1] = 18'd0;
  end
  always @(posedge clk) begin
  end
endmodule
module \\top.second (clk);
  reg [7:0] bank0 [3:0];
  reg flag = 1'h0;
  initial begin
    flag = 1'h1;
  end
  reg [7:0] rom [1:0];
  initial begin
    rom[0] = 8'h00;
    rom[1] = 8'h01;
  end
endmodule
"""
SMALL = Config(groups=4, max_hidden=40, max_intermediate=40, max_layers=2, max_vocab=64, max_rows=64, batch=2)


def test_named_memories_get_the_style() -> None:
    assert styled(TEXT, ()) == TEXT
    made = styled(TEXT, (("*first/bank*", "ultra"), ("bank0", "distributed")))
    assert made == TEXT.replace(
        "  reg [17:0] bank0 [3:0];\n  initial begin\n    bank0[0] = 18'h00000;\n    bank0[1] = 18'd0;\n  end\n",
        '  (* ram_style = "ultra" *)\n  reg [17:0] bank0 [3:0];\n',
    ).replace("  reg [7:0] bank0", '  (* ram_style = "distributed" *)\n  reg [7:0] bank0')
    assert styled(TEXT, (("*second/bank0", "ultra"),)) == TEXT.replace(
        "  reg [7:0] bank0", '  (* ram_style = "ultra" *)\n  reg [7:0] bank0'
    ), "no contents are said, so none are left out"


def test_refusals() -> None:
    with pytest.raises(
        TritapeError,
        match=r"^top\.second/rom: memory in UltraRAM must begin with zeros, not \"rom\[1\] = 8'h01;\"; choose another style$",
    ):
        styled(TEXT, (("rom", "ultra"),))
    with pytest.raises(
        TritapeError, match=r"^memory_styles must name memories of the design, not '\*third/bank'; correct it$"
    ):
        styled(TEXT, (("*first/bank0", "ultra"), ("*third/bank", "ultra")))


def test_patterns_of_the_u250_name_its_memories() -> None:
    """In the Verilog of a slot: every table, gain memory and memory of activations, and nothing else."""
    text = verilog_text(Slot(SMALL), "core")
    made = styled(text, board("u250").memory_styles)
    styles = re.findall(r'ram_style = "(\w+)" \*\)\n  reg (?:signed )?\[\d+:0\] (\S+) ', made)
    assert styles.count(("ultra", "memory")) == 2
    assert sum(style == "distributed" and name.startswith("table_") for style, name in styles) == SMALL.groups
    activations = [name for style, name in styles if style == "ultra" and name.startswith("memory_")]
    assert len(activations) == SMALL.engines * fillers(SMALL)
    assert len(styles) == 2 + SMALL.groups + len(activations)
