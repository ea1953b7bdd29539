"""The top level of a board: crystal, PLL and reset around the accelerator, its UART and two LEDs on pins."""

from __future__ import annotations

from typing import Any

from amaranth.hdl import ClockDomain, ClockSignal, Elaboratable, Module, ResetSignal, Signal
from amaranth.lib import io
from amaranth.lib.cdc import ResetSynchronizer

from tritape.base.errors import TritapeError
from tritape.hw.memory.flash_start import StartedFlash
from tritape.hw.memory.litedram import LiteDRAMMemory
from tritape.hw.standalone_accelerator import StandaloneAccelerator
from tritape.hw.uart_accelerator import UARTAccelerator
from tritape.rtl_gen.boards import Board
from tritape.rtl_gen.litedram import litedram_core
from tritape.rtl_gen.toolchains.pll import exactly

RESET_CYCLES = 1024
"""Cycles of reset after the PLL has locked. iCE40 block RAM cannot be read for some microseconds after configuration."""


def add_clock(m: Module, board: Board, platform: Any) -> None:
    """Give `m` the domain `sync` at `board.clock_hz`, in reset until `RESET_CYCLES` after the PLL has locked.

    A board whose crystal has the wanted frequency has no PLL. With SDR SDRAM there is also the domain `sdram`, a quarter of a
    period later. Cost: 13 flip-flops and a carry chain.
    """
    crystal = platform.request(board.clock or platform.default_clk, dir="-")
    clock, locked = Signal(), Signal()
    if board.clock_hz == board.crystal_hz and board.dram is None:
        m.submodules.crystal = buffer = io.Buffer("i", crystal)
        m.d.comb += [clock.eq(buffer.i), locked.eq(1)]
    else:
        toolchain = board.toolchain
        setting = exactly(toolchain.settings(platform, board.crystal_hz), board.clock_hz, board.name)
        late = {}
        if board.dram is not None:
            m.domains.sdram = ClockDomain(reset_less=True)
            late = {"late": ClockSignal("sdram")}
        m.submodules.pll = toolchain.pll(platform, setting, board.crystal_hz, crystal, clock, locked, **late)
    m.domains.start = ClockDomain(local=True)
    m.domains.sync = ClockDomain()
    count = Signal(range(RESET_CYCLES))
    running = Signal()
    m.d.comb += [ClockSignal("start").eq(clock), ClockSignal("sync").eq(clock), ResetSignal("sync").eq(~running)]
    m.submodules.locked = ResetSynchronizer(~locked, domain="start")
    m.d.start += count.eq(count + 1)
    with m.If(count == RESET_CYCLES - 1):
        m.d.start += running.eq(1)


_SDR = {
    "a": "a",
    "ba": "ba",
    "cas_n": "cas",
    "cke": "clk_en",
    "cs_n": "cs",
    "dm": "dqm",
    "dq": "dq",
    "ras_n": "ras",
    "we_n": "we",
}
_DDR3 = {**_SDR, "clk_p": "clk", "dqs_p": "dqs", "dm": "dm", "odt": "odt", "reset_n": "rst"}


def add_sdram(m: Module, board: Board, platform: Any) -> LiteDRAMMemory:
    """The memory of a board with SDRAM, to be put into the accelerator; its controller goes to the tools as a file of its own.

    The chip's clock comes from domain `sdram`: commands and data that leave with `sync` are stable around its edge, and what it
    answers has three quarters of a period to come back. Source: the clocking of LiteX's ECP5 boards with SDRAM.
    """
    assert board.dram is not None
    core = litedram_core(board.clocked_dram)
    platform.add_file("litedram_core.v", core.verilog)
    pins = platform.request("sdram", 0, dir="-")
    memory = LiteDRAMMemory(
        board.config.word_bytes, core, pads={f"sdram_{pad}": getattr(pins, pin).io for pad, pin in _SDR.items()}
    )
    m.submodules.sdram_clock = clock = io.DDRBuffer("o", pins.clk, o_domain="sdram")
    m.d.comb += [
        clock.o[0].eq(1),
        clock.o[1].eq(0),
        memory.clk_in.eq(ClockSignal()),
        memory.rst_in.eq(ResetSignal()),
    ]
    return memory


def add_ddr3(m: Module, board: Board, platform: Any) -> LiteDRAMMemory:
    """The memory of a board with DDR3, to be put into the accelerator, and the domain `sync`: the controller's PLL makes the
    clocks of both. A reset or select line that the board does not have stays open."""
    core = litedram_core(board.clocked_dram)
    platform.add_file("litedram_core.v", core.verilog)
    pins = platform.request("ddr3", 0, dir="-")
    ports = {pad: getattr(pins, pin) for pad, pin in _DDR3.items() if hasattr(pins, pin)}
    pads = {f"ddram_{pad}": port.p if hasattr(port, "p") else port.io for pad, port in ports.items()}
    pads["ddram_a"] = pads["ddram_a"][: (core.rows - 1).bit_length()]  # the board may have lines for larger chips
    memory = LiteDRAMMemory(board.config.word_bytes, core, pads=pads)
    if ("ddr3_pseudo_power", 0) in platform.resources:  # pins that supply others; at 0 they are what they should be
        group = platform.request("ddr3_pseudo_power", 0, dir="-")
        for name in ("vcc_virtual", "gnd_virtual"):
            m.submodules[name] = supply = io.Buffer("o", getattr(group, name))
            m.d.comb += supply.o.eq(0)
    m.submodules.crystal = crystal = io.Buffer("i", platform.request(board.clock or platform.default_clk, dir="-"))
    m.domains.sync = ClockDomain()
    m.d.comb += [
        memory.clk_in.eq(crystal.i),
        ClockSignal("sync").eq(memory.user_clk),
        ResetSignal("sync").eq(memory.user_rst),
    ]
    return memory


PAD_CYCLES = 2
"""Registers at the flash's pins, out and back."""


def add_flash(m: Module, board: Board, platform: Any) -> StartedFlash:
    """The flash that the board was configured from as its memory. Lines have registers at the pins; the clock rises in the middle
    of a cycle, so a line has half a cycle before it and half a cycle behind it."""
    assert board.flash is not None
    memory = StartedFlash(board.config.word_bytes, board.flash.offset, PAD_CYCLES, board.flash.size)
    name, number = board.flash.resource
    pins = platform.request(name, number, dir="-")
    m.submodules.flash_clock = clock = io.DDRBuffer("o", pins.clk)
    m.submodules.flash_select = select = io.FFBuffer("o", pins.cs)
    m.d.comb += [clock.o[0].eq(0), clock.o[1].eq(memory.clock), select.o.eq(memory.select)]
    for line in range(4):
        m.submodules[f"flash_{line}"] = pad = io.FFBuffer("io", pins.dq[line])
        m.d.comb += [pad.o.eq(memory.io_o[line]), pad.oe.eq(memory.io_oe[line]), memory.io_i[line].eq(pad.i)]
    return memory


class BoardTop(Elaboratable):
    """`UARTAccelerator` of a board on its pins; `StandaloneAccelerator` where its tape is in flash.

    Its first LED shows a running token, its second a fault.
    """

    def __init__(self, board: Board) -> None:
        self._board = board

    def elaborate(self, platform: Any) -> Module:
        board = self._board
        m = Module()
        memory = None
        if board.dram is not None and board.dram.memtype == "DDR3":
            memory = add_ddr3(m, board, platform)
        else:
            add_clock(m, board, platform)
            if board.dram is not None:
                memory = add_sdram(m, board, platform)
        rates = {"clock_hz": board.clock_hz, "baud": board.baud}
        accelerator: StandaloneAccelerator | UARTAccelerator
        if board.flash is not None:
            flash = add_flash(m, board, platform)
            accelerator = StandaloneAccelerator(board.config, flash, board.memory_words, **rates)
        else:
            maker = board.make_memory if memory is None else lambda _groups, _words: memory
            accelerator = UARTAccelerator(board.config, board.memory_words, memory=maker, **rates)
        m.submodules.accelerator = accelerator
        name, number = board.uart
        uart = platform.request(name, number, dir="-")
        for pin in ("rx", "tx"):
            if not hasattr(uart, pin):
                raise TritapeError(f"{board.name}: resource {name} {number} must have a pin {pin}, not none; add it")
        m.submodules.rx = rx = io.Buffer("i", uart.rx)
        m.submodules.tx = tx = io.Buffer("o", uart.tx)
        m.d.comb += [accelerator.rx.eq(rx.i), tx.o.eq(accelerator.tx)]
        for (resource, index), light in zip(board.leds, accelerator.status):
            led = io.Buffer("o", platform.request(resource, index, dir="-"))
            m.submodules[f"led_{resource}{index}"] = led
            m.d.comb += led.o.eq(light)
        return m
