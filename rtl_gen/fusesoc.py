"""The FuseSoC core beside the Verilog, for designs that are put together with FuseSoC (CAPI2, FuseSoC 2.2 or later)."""

from __future__ import annotations

import json
from collections.abc import Sequence

VERSION = "0.1.0"
"""Of the core and of the IP-XACT component: that of tritape."""


def core_file(name: str, bench: Sequence[str] = ()) -> str:
    """Text of `NAME.core`: the core `tritape:core:NAME` with the targets `default`, `lint` and, with the files of a cocotb bench
    (`tritape.rtl_gen.cocotb_bench.bench_names`), `sim`. All files lie beside it."""
    targets: dict[str, object] = {
        "default": {"filesets": ["rtl"], "toplevel": name},
        "lint": {
            "description": "verilator -Wall, with the waivers",
            "filesets": ["waivers", "rtl"],
            "flow": "lint",
            "flow_options": {"tool": "verilator", "verilator_options": ["-Wall"]},
            "toplevel": name,
        },
    }
    filesets: dict[str, object] = {
        "rtl": {"files": [f"{name}.v"], "file_type": "verilogSource"},
        "waivers": {"files": [f"{name}.vlt"], "file_type": "vlt"},
    }
    if bench:
        # what the test reads lies beside it in the folder of the run
        files = [file if file.endswith(".v") else {file: {"file_type": "user", "copyto": file}} for file in bench]
        filesets["bench"] = {"files": files, "file_type": "verilogSource"}
        targets["sim"] = {
            "description": "a tape, a prompt, and the tokens that must come, with cocotb",
            "filesets": ["rtl", "bench"],
            "flow": "sim",
            "flow_options": {
                "tool": "verilator",
                "iverilog_options": ["-g2012"],  # where --tool=icarus is given
                "cocotb_module": f"test_{name}",
                "verilator_options": ["-Wno-fatal", "-Wno-lint", "-Wno-style", "--timescale 1ns/1ps", "-CFLAGS -O0"],
            },
            "toplevel": f"{name}_bench",
        }
    head = {"name": f"tritape:core:{name}:{VERSION}", "description": "accelerator of MatMul-free language models"}
    lines = [f"{key}: {value}" for key, value in head.items()]
    for key, value in (("filesets", filesets), ("targets", targets)):  # JSON is part of YAML, if its lines are indented
        lines.append(f"{key}:\n" + "\n".join("  " + line for line in json.dumps(value, indent=2).splitlines()))
    return "CAPI=2:\n" + "\n".join(lines) + "\n"
