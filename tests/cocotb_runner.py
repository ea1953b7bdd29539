"""Runs a cocotb test module on a component: for benches that need models of others, not only streams."""

from __future__ import annotations

import json
import re
import sys
import tempfile
from pathlib import Path
from typing import Any

from amaranth.lib import wiring
from cocotb_tools.runner import get_runner

from tritape.base import simulators as toolchain
from tritape.base.cache import cached, digest, reused_objects
from tritape.base.verilog_text import verilog_text
from tritape.sim.bench import require_simulator

_PORT = re.compile(r"^  (input|output) (\[\d+:0\] )?(\w+);", re.MULTILINE)


def _with_plain_names(verilog: str) -> str:
    """A module `bench` around module `dut`: double underscores in port names, which Verilator encodes, become one."""
    top = verilog[re.search(r"^module dut\(", verilog, re.MULTILINE).start() :]  # type: ignore[union-attr]
    ports = _PORT.findall(top[: top.index("endmodule")])
    header = ", ".join(f"{way} {width}{name.replace('__', '_')}" for way, width, name in ports)
    connect = ", ".join(f".{name}({name.replace('__', '_')})" for _, _, name in ports)
    return f"{verilog}\nmodule bench({header});\n  dut dut({connect});\nendmodule\n"


def run_cocotb(component: wiring.Component, module: str, job: dict[str, Any], simulator: str) -> dict[str, Any]:
    """Run the tests in `tests/MODULE.py` on the component, its ports named with single underscores.

    The module finds `job` in the file named by the plus argument `job` and leaves its answer, returned here, in the file
    named by `answer`. Built once per content. A failing test is an `AssertionError` with the end of the log.
    """
    require_simulator(simulator)
    verilog = _with_plain_names(verilog_text(component, "dut", checks=True))
    runner = get_runner(simulator)
    args, env = [], {}
    if simulator == "verilator":
        args, env = ["-Wno-fatal", "-Wno-lint", "-Wno-style"], toolchain.verilator_env()

    def build(folder: Path) -> None:
        source = folder / "bench.v"
        source.write_text(verilog)
        tool = toolchain.verilator_version() if simulator == "verilator" else toolchain.icarus_version()
        with toolchain.environment(env), reused_objects(folder, digest("cocotb_runner", tool, *args)):
            runner.build(
                sources=[source], hdl_toplevel="bench", build_dir=folder, build_args=args,
                log_file=folder / "build.log", always=True,
            )  # fmt: skip

    folder = cached("bench", digest("cocotb_runner", verilog, simulator, toolchain.cocotb_version()), build)
    with tempfile.TemporaryDirectory(prefix="tritape-bench-") as temporary:
        work = Path(temporary)
        (work / "job.json").write_text(json.dumps(job))
        before = list(sys.path)  # the runner hands it to the simulator
        sys.path.insert(0, str(Path(__file__).parent))
        try:
            runner.test(
                test_module=module, hdl_toplevel="bench", hdl_toplevel_lang="verilog", build_dir=folder, test_dir=work,
                results_xml=str(work / "results.xml"), log_file=work / "run.log",
                plusargs=[f"+job={work / 'job.json'}", f"+answer={work / 'answer.json'}"], extra_env=toolchain.cocotb_env(),
            )  # fmt: skip
        except (RuntimeError, SystemExit):
            pass
        finally:
            sys.path[:] = before
        if not (work / "answer.json").is_file():
            raise AssertionError("\n".join((work / "run.log").read_text(errors="replace").splitlines()[-40:]))
        answer: dict[str, Any] = json.loads((work / "answer.json").read_text())
        return answer
