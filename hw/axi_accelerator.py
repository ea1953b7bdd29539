"""What a board carries whose processor and memory are reached over AXI: accelerator, memory ports and register link."""

from __future__ import annotations

from amaranth.hdl import Cat, Module
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from tritape.hw.accelerator import Accelerator
from tritape.hw.config import Config
from tritape.hw.link.axi_lite import AXILiteLink, AXILiteSignature
from tritape.hw.memory.attach import add_memory
from tritape.hw.memory.axi import AXIMemory
from tritape.hw.memory.axi_bus import BOUNDARY, AXISignature


def port_bytes(memory_bytes: int, ports: int, port_bits: int) -> int:
    """Bytes that each port must have at its base for a striped memory of `memory_bytes`: whole lines, then whole pages."""
    line_bytes = port_bits // 8
    lines = -(-memory_bytes // (line_bytes * ports))
    return -(-lines * line_bytes // BOUNDARY) * BOUNDARY


class AXIAccelerator(wiring.Component):
    """`Accelerator`, its tape behind `ports` AXI4 ports (`AXIMemory`), and its host behind registers (`AXILiteLink`).

    Parameters
        config, memory_words: of the accelerator; ports, port_bits: of the memory, striped as `AXIMemory` says

    Ports
        control: AXI4-Lite, from the manager: `tritape.hw.link.axi_lite.Register`. The host writes the registers BASE before
        the first command and whenever its memory is another one; a tape must be loaded after that.
        axi: `ports` times AXI4, from this manager: addresses base[p] .. base[p] + `port_bytes` - 1 only.

    Latency and cost: those of the parts. Tested: a tape written over the registers, and one put into memory directly, then
    tokens and logits bit for bit, by the host's own `Device`, and two sessions of different bases
    (tests/test_hw_axi_accelerator.py). Errors: those of the parts.
    """

    def __init__(self, config: Config, memory_words: int, *, ports: int, port_bits: int) -> None:
        size = port_bytes(memory_words * config.word_bytes, ports, port_bits)
        self._accelerator = Accelerator(config, memory_words=memory_words)
        self._memory = AXIMemory(config.word_bytes, ports, port_bits, words=memory_words)
        self._link = AXILiteLink(ports, port_bits // 8, size)
        super().__init__({"control": In(AXILiteSignature()), "axi": Out(AXISignature(port_bits)).array(ports)})

    def elaborate(self, _platform: object) -> Module:
        m = Module()
        m.submodules.accelerator = accelerator = self._accelerator
        add_memory(m, self._memory, accelerator.memory, accelerator.restart)
        m.submodules.link = link = self._link
        wiring.connect(m, wiring.flipped(self.control), link.axi)
        wiring.connect(m, link.received, accelerator.rx)
        wiring.connect(m, accelerator.tx, link.sent)
        m.d.comb += [link.errors.eq(self._memory.errors), link.status.eq(Cat(accelerator.running, accelerator.fault))]
        for base, wanted, axi, port in zip(link.base, self._memory.base, self._memory.axi, self.axi):
            m.d.comb += wanted.eq(base)
            wiring.connect(m, axi, wiring.flipped(port))
        return m
