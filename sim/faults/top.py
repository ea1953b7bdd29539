"""The accelerator of the fault campaign: small, behind a real AXI backend, every memory open to a hand that flips bits."""

from __future__ import annotations

import re
from dataclasses import replace

from amaranth.hdl import Cat, ClockDomain, Module
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out

from tritape.base.verilog_text import verilog_text
from tritape.hw.accelerator import Accelerator
from tritape.hw.config import Config
from tritape.hw.memory.attach import add_memory
from tritape.hw.memory.axi import AXIMemory
from tritape.hw.memory.axi_bus import AXISignature
from tritape.hw.stream.forward import forward

_SMALL = Config(groups=8, max_hidden=32, max_intermediate=48, max_layers=2, max_vocab=64, max_rows=64)
DESIGNS = {
    "pipelined": _SMALL,
    "serial": replace(_SMALL, groups=4, serial=True),
    "slots": replace(_SMALL, tables_per_filler=4, batch=2),
    "lanes": replace(_SMALL, tables_per_filler=4, engines=2),
}
"""Configurations that the campaign knows. Pipelined and lanes have the checks of every field, serial has not (decision 0009)."""
MEMORY_WORDS = 4096
PORT_BITS = 64
WATCHDOG, PATIENCE = 13, 14
"""Bits of the two waits, far shorter than a board's (20 and 24), so that a starved token costs milliseconds of simulation. A
token of the campaign's model takes 2^11 cycles."""
_MEMORY = re.compile(r"^(\s*reg (?:signed )?(?:\[\d+:0\] )?(?:\\\S+ |\w+)\s*\[\d+:0\]);", re.MULTILINE)


class FaultyTop(wiring.Component):
    """`Accelerator` with `AXIMemory` in a clock domain without reset, as after configuration.

    Ports: clk; rx, tx: byte streams of the host; axi: one port of `PORT_BITS`; logit_valid, logit: taps of every slot, slot 0 in
    the low bits.
    """

    def __init__(self, config: Config) -> None:
        self._config = config
        super().__init__(
            {
                "clk": In(1),
                "rx": In(stream.Signature(8)),
                "tx": Out(stream.Signature(8)),
                "axi": Out(AXISignature(PORT_BITS)),
                "logit_valid": Out(config.batch),
                "logit": Out(18 * config.batch),
            }
        )

    def elaborate(self, _platform: object) -> Module:
        m, config = Module(), self._config
        m.domains.sync = domain = ClockDomain(reset_less=True)
        accelerator = Accelerator(
            config, memory_words=MEMORY_WORDS, memory_errors=True, watchdog=WATCHDOG, patience=PATIENCE
        )
        memory = AXIMemory(config.word_bytes, 1, PORT_BITS, burst=16, fifo_lines=64, words=MEMORY_WORDS)
        m.submodules.accelerator = accelerator
        add_memory(m, memory, accelerator.memory, accelerator.restart)
        forward(m, self, accelerator, ("rx", "tx"))
        wiring.connect(m, memory.axi[0], wiring.flipped(self.axi))
        probes = [accelerator.probe] if config.batch == 1 else list(accelerator.probe)
        m.d.comb += [
            domain.clk.eq(self.clk),
            accelerator.memory_errors.eq(memory.errors),
            self.logit_valid.eq(Cat(probe.logit_valid for probe in probes)),
            self.logit.eq(Cat(probe.logit for probe in probes)),
        ]
        return m


def verilog(config: Config) -> str:
    """Verilog of `FaultyTop`, module `top`, its memories marked as public to Verilator's C++."""
    text = verilog_text(FaultyTop(config), "top")
    return _MEMORY.sub(r"\1 /*verilator public_flat_rw*/;", text)
