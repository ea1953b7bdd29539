"""The accelerator with its tape in block RAM: what a board without external memory carries."""

from __future__ import annotations

from amaranth.hdl import Module, ResetInserter
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out

from tritape.hw.accelerator import Accelerator
from tritape.hw.config import Config
from tritape.hw.memory.onchip import OnChipMemory
from tritape.hw.probe import ProbeSignature


class OnChipAccelerator(wiring.Component):
    """`Accelerator` and `OnChipMemory` of `memory_words` words of G bytes; `init` (bytes) preloads a tape.

    Ports: `rx`, `tx` (byte streams of docs/protocol.md) and `probe` (taps for simulation). Latency and cost: those of the
    two. Tested: a tape loaded over the link, then tokens (tests/test_hw_accelerator.py).
    """

    def __init__(self, config: Config, memory_words: int, init: bytes | None = None) -> None:
        self._accelerator = Accelerator(config, memory_words=memory_words)
        self._memory = OnChipMemory(config.word_bytes, memory_words, init)
        super().__init__(
            {"rx": In(stream.Signature(8)), "tx": Out(stream.Signature(8)), "probe": Out(ProbeSignature())}
        )

    def elaborate(self, _platform: object) -> Module:
        m = Module()
        m.submodules.accelerator = accelerator = self._accelerator
        m.submodules.memory = ResetInserter(accelerator.restart)(self._memory)
        wiring.connect(m, accelerator.memory, self._memory)
        wiring.connect(m, wiring.flipped(self.rx), accelerator.rx)
        wiring.connect(m, accelerator.tx, wiring.flipped(self.tx))
        wiring.connect(m, accelerator.probe, wiring.flipped(self.probe))
        return m
