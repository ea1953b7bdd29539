"""What every board with a UART carries: accelerator, tape memory and UART, between two pins."""

from __future__ import annotations

from collections.abc import Callable

from amaranth.hdl import Cat, Module
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from tritape.hw.accelerator import Accelerator
from tritape.hw.config import Config
from tritape.hw.link.uart import UART
from tritape.hw.memory.attach import add_memory
from tritape.hw.memory.onchip import OnChipMemory


class UARTAccelerator(wiring.Component):
    """An accelerator, of one slot or several, a tape memory of `memory_words` words of G bytes, and `UART`.

    Parameters
        config, memory_words: of the accelerator; clock_hz: of `sync`; baud: of the UART
        memory: makes the memory (`MemorySignature`) from (G, words); block RAM by default

    Ports, all of domain `sync`
        rx: In, tx: Out, the pins, idle high
        status: Out, u2: bit 0 a token runs, bit 1 the tape was refused or is broken

    Latency and cost: those of the parts. Tested: pins against the host's bytes (tests/test_hw_uart.py), whole tokens on
    the virtual board. Errors: those of the parts.
    """

    def __init__(
        self,
        config: Config,
        memory_words: int,
        *,
        clock_hz: int,
        baud: int,
        memory: Callable[[int, int], wiring.Component] | None = None,
    ) -> None:
        self._accelerator = Accelerator(config, memory_words=memory_words)
        self._memory = (memory or OnChipMemory)(config.word_bytes, memory_words)
        self._uart = UART(clock_hz=clock_hz, baud=baud)
        super().__init__({"rx": In(1, init=1), "tx": Out(1, init=1), "status": Out(2)})

    def elaborate(self, _platform: object) -> Module:
        m = Module()
        m.submodules.accelerator = inner = self._accelerator
        add_memory(m, self._memory, inner.memory, inner.restart)
        m.submodules.uart = uart = self._uart
        wiring.connect(m, uart.received, inner.rx)
        wiring.connect(m, inner.tx, uart.sent)
        m.d.comb += [
            uart.rx.eq(self.rx),
            self.tx.eq(uart.tx),
            self.status.eq(Cat(inner.running, inner.fault)),
        ]
        return m
