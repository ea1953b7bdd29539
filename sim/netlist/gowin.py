"""Routed Gowin netlists in the words of `cells/gowin.v`: nextpnr gives block RAM and multipliers a port for each bit and adders
the bits of their LUT."""

from __future__ import annotations

import re
from typing import Any

from tritape.base.errors import TritapeError

ADDER = "tritape_gowin_alu"
_ADDER_MODES = {"C2L": 0x0000, "ONE2C": 0x000F, f"{2:032b}": 0x609A}
"""Bits of the LUT by mode, as `apycula` writes them into a bitstream; 2 is add or subtract. Others come with their bits."""
_MEMORIES = {
    "SP": ("BIT_WIDTH", "SP", "SPX9"),
    "DP": ("BIT_WIDTH_0", "DPB", "DPX9B"),
    "SDP": ("BIT_WIDTH_0", "SDPB", "SDPX9B"),
}
"""Routed cell: the parameter that says its width, and the cell that it was for multiples of 8 and of 9."""
_SPLIT = (*_MEMORIES, "MULT18X18", "MULT9X9")
_HELD = {"TBUF": ("BOTTOM_IO_PORT_A", "BOTTOM_IO_PORT_B"), "RAM16SDP4": ("CE",)}
"""Ports that nextpnr adds and holds at one level."""
_BIT = re.compile(r"([A-Z]+)(\d+)")


def unpack(board: str, design: dict[str, Any]) -> None:
    """Rewrite the cells of a routed design in place.

    Raises `TritapeError` naming `board` and a cell whose mode is not known.
    """
    nets = (bit for net in design["netnames"].values() for bit in net["bits"])
    unused = max((bit for bit in nets if isinstance(bit, int)), default=1) + 1_000_000  # for outputs that go nowhere
    for name, cell in list(design["cells"].items()):
        directions, connections = cell["port_directions"], cell["connections"]
        if not any(connections[port] for port in connections if directions[port] == "output"):
            del design["cells"][name]  # places that are kept free, pins that hold
            continue
        cell["parameters"] = {key: value for key, value in cell["parameters"].items() if not key.startswith("NET_")}
        for port in _HELD.get(cell["type"], ()):
            connections.pop(port, None)
            directions.pop(port, None)
        if cell["type"] == "ALU":
            cell["type"], cell["parameters"] = ADDER, {"LUT": f"{_adder(board, name, cell['parameters']):016b}"}
            for port in ("I0", "I1", "I2", "I3", "CIN"):
                connections.setdefault(port, ["0"])
                directions.setdefault(port, "input")
        elif cell["type"] in _SPLIT:
            wide: dict[str, dict[int, list[Any]]] = {}
            for port in list(connections):
                bit = _BIT.fullmatch(port)
                if bit is not None:
                    wide.setdefault(bit[1], {})[int(bit[2])] = connections.pop(port)
                    directions[bit[1]] = directions.pop(port)
            for port, bits in wide.items():
                connections[port] = []
                for index in range(max(bits) + 1):
                    unused += 1
                    open_end = unused if directions[port] == "output" else "0"
                    connections[port] += bits.get(index) or [open_end]
            if cell["type"] in _MEMORIES:
                width, *kinds = _MEMORIES[cell["type"]]
                cell["type"] = kinds[int(cell["parameters"][width], 2) % 9 == 0]
    for name in design["cells"].keys() & design["netnames"].keys():
        design["cells"][f"{name}$cell"] = design["cells"].pop(name)  # Yosys has one name for one thing


def _adder(board: str, name: str, parameters: dict[str, str]) -> int:
    if "RAW_ALU_LUT" in parameters:
        return int(parameters["RAW_ALU_LUT"][-16:], 2)
    mode = parameters.get("ALU_MODE", "")
    if mode not in _ADDER_MODES:
        raise TritapeError(
            f"{board}: mode of {name} must be one of {', '.join(_ADDER_MODES)}, not {mode!r}; "
            "add its LUT to sim/netlist/gowin.py"
        )
    return _ADDER_MODES[mode]
