"""`tritape verilog`: one self-contained file, a description of its ports and counters as JSON and Markdown, waivers, and what
other people's tools read: a FuseSoC core, an IP-XACT component, a cocotb bench."""

from __future__ import annotations

import json
import re
from dataclasses import asdict
from pathlib import Path
from typing import Any

from amaranth.lib import wiring

from tritape.base.errors import TritapeError
from tritape.base.files import replacing
from tritape.base.verilog_text import verilog_text
from tritape.hw.accelerator import Accelerator
from tritape.hw.config import Config
from tritape.hw.counters import COUNTERS
from tritape.hw.link.commands import BATCH_VERSION, PROTOCOL_VERSION, Command
from tritape.rtl_gen.cocotb_bench import bench_files, bench_names
from tritape.rtl_gen.fusesoc import core_file
from tritape.rtl_gen.ipxact import component_xml, package_tcl

TOP = "tritape"
"""Name of the module unless another is asked for."""
_WORDS = """
always and assign automatic begin buf case cell config deassign default defparam design disable edge else end endcase
endfunction endmodule endtask event for force forever fork function generate genvar if initial inout input instance integer
join large library localparam macromodule medium module nand negedge nor not or output parameter posedge pulldown pullup
real realtime reg release repeat scalared signed small specify strong supply0 supply1 table task time tran tri unsigned use
vectored wait wand weak while wire wor xnor xor bit byte int logic bench top
"""
KEYWORDS = frozenset(_WORDS.split())
"""Names that no core may have: Verilog's words, and what its own bench and simulations call theirs."""

MEANING = {
    "clk": "clock; everything is synchronous to its rising edge",
    "rst": "synchronous reset, high for at least one cycle",
    "rx": "bytes from the host (docs/protocol.md)",
    "tx": "bytes to the host",
    "memory.requests": "reads: address u32 (low), length u32, both in words of G bytes",
    "memory.words": "words of the requests, in order; byte 0 in the low bits",
    "memory.read_failed": "high for one cycle for every error of a read, before its word is taken",
    "memory.write": "writes: address u32 (low), word of G bytes",
    "memory.write_failed": "in the cycle of a transfer of the write: the word is not stored",
    "memory_errors": "errors of the memory since reset, for the host to read",
    "restart": "high for one cycle when reads under way must be forgotten",
    "running": "a token runs",
    "fault": "the tape was refused or is broken",
    "probe": "taps for simulation; leave open in a bitstream",
}
"""What each port group carries, by the longest matching prefix."""

WAIVERS = {
    ("ASCRANGE", "*[-1:0]*"): "a signal of no bits is declared so (bank of a memory with one bank); nothing reads it",
    ("CASEINCOMPLETE", "*"): "targets have their default before the case; LATCH, which would show one without, is on",
    ("DECLFILENAME", "*"): "the file holds every module of the design, so it cannot be named after each",
    ("INITIALDLY", "*"): "one assignment at time zero makes event simulators run combinational processes once",
    ("PROCASSINIT", "*"): "initial values of registers are what the FPGA powers up with, and what reset restores",
    ("UNUSEDSIGNAL", "*"): "kept for people: fields of structures, carries of sums, ports that a unit does not need",
    ("VARHIDDEN", "*"): "a unit and a signal within it may have the same name",
    ("WIDTHEXPAND", "*"): "operands are extended to the width of the result, as Amaranth defines and Verilog does",
    ("WIDTHTRUNC", "*LOGNOT expects*"): "`!` of several bits compares with zero",
    ("WIDTHTRUNC", "*SHIFTR generates*"): "the lower half of a shifted word is meant",
}
"""Warnings of `verilator -Wall` that are waived, as rule and pattern of its message, each with its reason."""


def write_verilog(folder: Path, config: Config, source: str, *, name: str = TOP, bench: bool = False) -> dict[str, Any]:
    """Write into `folder` (made if missing) `NAME.v`, its description as `NAME.json` and `NAME.md`, Verilator's waivers as
    `NAME.vlt`, and what others read: `NAME.core` (FuseSoC), `NAME.xml` (IP-XACT), `NAME_package.tcl` (Vivado), `NAME_litex.py`;
    returns the description. With `bench` also a cocotb bench (`tritape.rtl_gen.cocotb_bench`).

    Every module is `name` or begins with it, so cores of different names fit in one design and one folder. `source` says what
    made it (the command line), for the description. Equal arguments give equal bytes.
    Raises TritapeError when `folder` is a file, or `name` is no name of a Verilog module.
    """
    folder = Path(folder)
    if folder.exists() and not folder.is_dir():
        raise TritapeError(f"{folder}: output must be a folder, not a file; choose another with -o")
    check_name(name)
    folder.mkdir(parents=True, exist_ok=True)
    component = Accelerator(config)
    text = verilog_text(component, name)
    description = describe(component, config, source, name)
    files = {
        f"{name}.v": text,
        f"{name}.json": json.dumps(description, indent=2) + "\n",
        f"{name}.md": markdown(description),
        f"{name}.vlt": waivers(name),
        f"{name}.core": core_file(name, bench_names(name) if bench else ()),
        f"{name}.xml": component_xml(description),
        f"{name}_package.tcl": package_tcl(description),
        f"{name}_litex.py": litex_module(name),
    }
    if bench:
        files |= bench_files(description, config)
    for file, content in files.items():
        with replacing(folder / file) as stream:
            stream.write(content.encode())
    return description


def litex_module(name: str) -> str:
    """Text of `NAME_litex.py`, a module for a LiteX SoC: `litex_template.py` with another name."""
    text = Path(__file__).with_name("litex_template.py").read_text()
    for pattern in ("`tritape`", "tritape.v", "tritape.json", "tritape_litex", 'NAME = "tritape"'):
        text = text.replace(pattern, pattern.replace("tritape", name))
    return text


def check_name(name: str) -> None:
    """Raise TritapeError unless `name` may be that of a Verilog module, a file and a Python module."""
    if not re.fullmatch(r"[A-Za-z][A-Za-z0-9_]{0,63}", name) or name in KEYWORDS:
        raise TritapeError(
            f"name must be letters, digits and _ behind a letter, 64 at most, and no word of Verilog, not {name!r}; try core0"
        )


def describe(component: Accelerator, config: Config, source: str, module: str = TOP) -> dict[str, Any]:
    """Ports, limits, commands and counters of an accelerator."""
    ports = [{"name": name, "direction": "in", "bits": 1, "meaning": MEANING[name]} for name in ("clk", "rst")]
    for path, member, value in component.signature.flatten(component):
        name = ".".join(map(str, path))
        prefix = max((key for key in MEANING if name == key or name.startswith(key + ".")), key=len)
        ports.append(
            {
                "name": "__".join(map(str, path)),
                "direction": "out" if member.flow is wiring.Out else "in",
                "bits": len(value.as_value() if hasattr(value, "as_value") else value),
                "meaning": MEANING[prefix],
            }
        )
    return {
        "module": module,
        "made_by": source,
        "configuration": asdict(config),
        "configuration_hash": f"{config.hash64():016x}",
        "protocol_version": PROTOCOL_VERSION if config.batch == 1 else BATCH_VERSION,
        "ports": ports,
        "commands": [
            {"name": command.name, "byte": int(command)}
            for command in Command
            if command != Command.SLOT or config.batch > 1
        ],
        "counters": [{"index": index, "name": name} for index, name in enumerate(COUNTERS)],
    }


def markdown(description: dict[str, Any]) -> str:
    """The description for people."""
    module = description["module"]
    lines = [
        f"# Module `{module}`",
        "",
        f"Made by `{description['made_by']}`; configuration {description['configuration_hash']}.",
        "",
        "| limit | value |",
        "|---|---:|",
        *(f"| {name} | {value} |" for name, value in description["configuration"].items()),
        "",
        "| port | direction | bits | meaning |",
        "|---|---|---:|---|",
        *(f"| `{p['name']}` | {p['direction']} | {p['bits']} | {p['meaning']} |" for p in description["ports"]),
        "",
        "Streams follow the rules of `amaranth.lib.stream`: a transfer happens when valid and ready are high; valid",
        "does not wait for ready, and the payload holds until the transfer.",
        "",
        "| counter | name |",
        "|---:|---|",
        *(f"| {c['index']} | {c['name']} |" for c in description["counters"]),
        "",
        f"`verilator --lint-only -Wall {module}.vlt {module}.v` is silent; `{module}.vlt` says why each warning is waived.",
        "",
    ]
    return "\n".join(lines)


def waivers(name: str = TOP) -> str:
    """`WAIVERS` in Verilator's language, for `NAME.v`."""
    lines = ["`verilator_config"]
    for (rule, pattern), reason in WAIVERS.items():
        lines += [f"// {reason}", f'lint_off -rule {rule} -file "*{name}.v" -match "{pattern}"']
    return "\n".join(lines) + "\n"
