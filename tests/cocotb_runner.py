"""Runs a cocotb test module on a component: for benches that need models of others, not only streams."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

from amaranth.lib import wiring

from tritape.base.verilog_text import verilog_text
from tritape.sim.bench.simulator import TOP, build_bench, log_tail, require_simulator, run_bench, work_folder

_PORT = re.compile(r"^  (input|output) (\[\d+:0\] )?(\w+);", re.MULTILINE)


def _with_plain_names(verilog: str) -> str:
    """A module `bench` around module `dut`: double underscores in port names, which Verilator encodes, become one."""
    top = verilog[re.search(r"^module dut\(", verilog, re.MULTILINE).start() :]  # type: ignore[union-attr]
    ports = _PORT.findall(top[: top.index("endmodule")])
    header = ", ".join(f"{way} {width}{name.replace('__', '_')}" for way, width, name in ports)
    connect = ", ".join(f".{name}({name.replace('__', '_')})" for _, _, name in ports)
    return f"{verilog}\nmodule {TOP}({header});\n  dut dut({connect});\nendmodule\n"


def run_cocotb(component: wiring.Component, module: str, job: dict[str, Any], simulator: str) -> dict[str, Any]:
    """Run the tests in `tests/MODULE.py` on the component, its ports named with single underscores.

    The module finds `job` in the file named by the plus argument `job` and leaves its answer, returned here, in the file
    named by `answer`. Built once per content. A failing test is an `AssertionError` with the end of the log.
    """
    require_simulator(simulator)
    build = build_bench(_with_plain_names(verilog_text(component, "dut", checks=True)), simulator)
    with work_folder() as work:
        (work / "job.json").write_text(json.dumps(job))
        log = run_bench(
            build,
            simulator,
            module,
            work,
            path=[Path(__file__).parent],
            plusargs=[f"+job={work / 'job.json'}", f"+answer={work / 'answer.json'}"],
        )
        if not (work / "answer.json").is_file():
            raise AssertionError(log_tail(log))
        answer: dict[str, Any] = json.loads((work / "answer.json").read_text())
        return answer
