"""SDRAM and DDR3 behind a controller that LiteDRAM's generator has written."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from amaranth.hdl import Cat, ClockSignal, Const, Instance, IOPort, Module, Mux, ResetInserter, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from tritape.hw.memory.attach import add_memory
from tritape.hw.memory.axi import AXIMemory
from tritape.hw.memory.faults import Cause
from tritape.hw.memory.register_window import RegisterWindow
from tritape.hw.memory.signature import MemorySignature
from tritape.hw.memory.wishbone_script import WishboneScript
from tritape.hw.stream.forward import forward


class Controller(Protocol):
    """What `LiteDRAMMemory` must know of module `litedram_core`, a generated controller (`tritape.rtl_gen.litedram.Core`)."""

    @property
    def verilog(self) -> str:
        """Its text, to be put beside the design's."""

    @property
    def port_bits(self) -> int:
        """Width of its AXI4 port."""

    @property
    def address_bits(self) -> int:
        """The memory has 2^address_bits bytes."""

    @property
    def script(self) -> Sequence[tuple[int, int, int]]:
        """What starts the memory: (word address on the Wishbone port, value, cycles to wait behind it)."""

    @property
    def has_model(self) -> bool:
        """It contains a model of the chips, for simulation, and no pins."""

    @property
    def levelled(self) -> bool:
        """The moment of reading must be found on each board (DDR3)."""


class LiteDRAMMemory(wiring.Component):
    """The tape in SDRAM or DDR3: words of G bytes through a `Controller`, by an AXI4 port as wide as the memory's own.

    The core's text, `core.verilog`, must be given to the tools beside the Verilog of the design. A controller is started by
    `WishboneScript`, without a processor: enough for SDR SDRAM and for the model of any memory. The pins of DDR3 need read
    levelling too: the host does both, through `RegisterWindow` (`tritape.host.dram`), which every DDR3 has.

    Ports
        requests, words, read_failed, write, write_failed, restart, errors: those of `AXIMemory`, as many words as the memory
        holds. Before the start everything waits; with `by_host`, which may never come, everything is refused.
        cause: Out u4: `Cause` of the latest error; NOT_STARTED before the start by the host.
        ready: Out u1: it is started; with `by_host`, register `ddrctrl_init_done` was written, the last one of the script.
        clk_in, rst_in: In u1: for DDR3 the board's oscillator, from which the core's PLL makes its clocks; for SDR, which has no
        PLL, the controller's clock itself (the chips' own clock pin is the board's to drive); unused by a core with a model.
        user_clk, user_rst: Out u1: the controller's clock and reset, from which the board makes domain `sync`.

    `pads`: the core's pins by name (`sdram_a` ...), as `IOPort`; none for a core with a model. `hurry` divides the waiting times
    of the start, for simulation. `by_host`: the host starts it; None: as the memory needs.
    Rate: measured with refresh by `python -m tritape.sim.memory.measure sdr` and `ddr3`.
    Latency and cost: those of `AXIMemory` and the core. Tested: both cores with LiteDRAM's model (tests/test_hw_litedram.py).
    """

    def __init__(
        self,
        groups: int,
        core: Controller,
        *,
        pads: Mapping[str, IOPort] | None = None,
        hurry: int = 1,
        by_host: bool | None = None,
    ) -> None:
        self._groups = groups
        self.core, self.verilog, self._pads = core, core.verilog, dict(pads or {})
        self._by_host = core.levelled and (not core.has_model if by_host is None else by_host)
        self._window = RegisterWindow(groups) if core.levelled else None
        words = min((1 << core.address_bits) // groups, 1 << 32)
        self._memory = AXIMemory(groups, 1, core.port_bits, words=words)
        script = [(address, value, wait // hurry) for address, value, wait in core.script]
        self._start = None if self._by_host else WishboneScript(script)
        super().__init__(
            {
                **MemorySignature(groups).members,
                "restart": In(1),
                "errors": Out(16),
                "cause": Out(Cause),
                "ready": Out(1),
                "clk_in": In(1),
                "rst_in": In(1),
                "user_clk": Out(1),
                "user_rst": Out(1),
            }
        )

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        memory, window = self._memory, self._window
        port = wiring.flipped(self)
        closed = Signal()  # the host starts the memory, and has not done so
        m.d.comb += closed.eq(~self.ready & self._by_host)
        if window is not None:
            m.submodules.window = ResetInserter(self.restart)(window)
            m.d.comb += [window.started.eq(self.ready), window.closed.eq(closed)]
            forward(m, self, window, MemorySignature(self._groups).members)
            port = window.memory
        add_memory(m, memory, port, self.restart)
        start: WishboneScript | RegisterWindow
        if self._start is None:
            assert window is not None
            start, ready = window, Signal()
            with m.If(window.cyc & window.ack & (window.adr == self.core.script[-1][0])):
                m.d.sync += ready.eq(window.dat_w[0])
        else:
            m.submodules.start = start = self._start
            ready = start.done
        m.d.comb += [self.errors.eq(memory.errors), self.ready.eq(ready)]
        m.d.comb += self.cause.eq(Mux(closed, Cause.NOT_STARTED, memory.cause))
        axi = memory.axi[0]
        returned = {"rid": Signal(), "bid": Signal()}  # one bit of an identifier is the core's
        m.d.comb += [
            axi.rid.eq(Cat(returned["rid"], axi.arid[1:])),
            axi.bid.eq(Cat(returned["bid"], axi.awid[1:])),
        ]
        m.submodules.core = Instance(
            "litedram_core",
            **self._axi_pins(axi, returned),
            i_wb_ctrl_adr=start.adr,
            i_wb_ctrl_dat_w=start.dat_w,
            i_wb_ctrl_cyc=start.cyc,
            i_wb_ctrl_stb=start.stb,
            i_wb_ctrl_we=start.we,
            i_wb_ctrl_sel=Const(0xF, 4),
            i_wb_ctrl_cti=Const(0, 3),
            i_wb_ctrl_bte=Const(0, 2),
            o_wb_ctrl_ack=start.ack,
            o_user_clk=self.user_clk,
            o_user_rst=self.user_rst,
            **self._outside(),
        )
        return m

    def _axi_pins(self, axi: Any, returned: dict[str, Signal]) -> dict[str, Any]:
        """The core's AXI port: its addresses are shorter, its sizes a bit longer than the backend's; its identifiers have one bit
        of the backend's, enough for a controller, which loses nothing: `returned` are those that it gives."""
        ports: dict[str, Any] = {}
        for name, member in axi.signature.members.items():
            if name.endswith(("cache", "prot")):
                continue  # the core has none
            value = returned[name] if name in returned else getattr(axi, name)
            if name.endswith("addr"):
                value = value[: self.core.address_bits]
            elif name in ("arid", "awid"):
                value = value[0]
            elif name.endswith("size"):
                value = Cat(value, Const(0, 1))
            ports[("o" if member.flow == In else "i") + f"_user_port_axi_{name}"] = value
        return ports

    def _outside(self) -> dict[str, Any]:
        """Clock, reset and pins: of the board, or for a core with a model only the design's own clock."""
        if self.core.has_model:
            return {"i_clk": ClockSignal(), "i_sim_trace": Const(0)}
        return {"i_clk": self.clk_in, "i_rst": self.rst_in, **{f"io_{name}": pad for name, pad in self._pads.items()}}
