"""The accelerator as the fast simulation sees it: without a reset input."""

from __future__ import annotations

from amaranth.hdl import ClockDomain, Module
from amaranth.lib import wiring
from amaranth.lib.wiring import In

from tritape.hw.accelerator import Accelerator


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
        m.d.comb += [domain.clk.eq(self.clk), self.restart.eq(inner.restart)]
        for name in inner.signature.members:
            if name != "restart":
                wiring.connect(m, wiring.flipped(getattr(self, name)), getattr(inner, name))
        return m
