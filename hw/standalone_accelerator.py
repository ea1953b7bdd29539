"""What a board carries that writes text by itself: token loop, tape memory, `AutoBoot` and the UART that the text leaves by."""

from __future__ import annotations

from amaranth.hdl import Cat, Module
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from tritape.hw.config import Config
from tritape.hw.link.autoboot import SAMPLER, AutoBoot
from tritape.hw.link.uart import UART
from tritape.hw.token_loop import TokenLoop


class StandaloneAccelerator(wiring.Component):
    """A token loop that boots from its memory at power-up and writes the text of the script there; no host, no commands.

    Parameters
        config: of one slot
        memory: with `MemorySignature`: a script (`AutoBoot`), then a tape. If it has a port `started`, that is waited for
        memory_words: of the tape at most
        clock_hz: of `sync`; baud: of the UART

    Ports, all of domain `sync`
        rx: In, tx: Out, the UART's pins, idle high: text out; when it is over, any byte begins it anew
        status: Out, u2: bit 0 a token runs, bit 1 no script, or the tape was refused or is broken

    Latency: that of the parts. Cost: 3,503 iCE40 LUT4, 2,060 flip-flops and 27 block RAMs as `icebreaker-flash`, `StartedFlash`,
    clock and pins included. Tested: from power-up to text on the virtual board (tests/test_hw_autoboot.py). Errors:
    `TritapeError` for several slots, and those of the parts.
    """

    def __init__(
        self, config: Config, memory: wiring.Component, memory_words: int, *, clock_hz: int, baud: int
    ) -> None:
        self._auto, self._memory = AutoBoot(config), memory
        self._loop = TokenLoop(config, memory_words=memory_words)
        self._uart = UART(clock_hz=clock_hz, baud=baud)
        super().__init__({"rx": In(1, init=1), "tx": Out(1, init=1), "status": Out(2)})

    def elaborate(self, _platform: object) -> Module:
        m, auto, loop, uart, memory = Module(), self._auto, self._loop, self._uart, self._memory
        m.submodules.auto, m.submodules.loop, m.submodules.uart, m.submodules.memory = auto, loop, uart, memory
        for sender, receiver in (
            (auto.requests, memory.requests),
            (memory.words, auto.words),
            (loop.memory.requests, auto.asked),
            (auto.given, loop.memory.words),
            (auto.boot, loop.boot),
            (auto.tokens, loop.tokens),
            (loop.results, auto.results),
            (auto.text, uart.sent),
        ):
            wiring.connect(m, sender, receiver)
        for name in ("configured", "fault", "damaged", "passing"):
            m.d.comb += getattr(auto, name).eq(getattr(loop, name))
        for name in ("running", *(name for name in SAMPLER if name in auto.signature.members)):
            m.d.comb += getattr(loop, name).eq(getattr(auto, name))
        m.d.comb += [
            auto.start.eq(getattr(memory, "started", 1)),
            auto.read_failed.eq(memory.read_failed),
            auto.again.eq(uart.received.valid),
            uart.received.ready.eq(1),
            uart.rx.eq(self.rx),
            self.tx.eq(uart.tx),
            self.status.eq(Cat(auto.running, auto.failed)),
        ]
        return m
