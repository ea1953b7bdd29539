"""The accelerator: a host link, a token loop and the memory that they share, from host bytes to tokens."""

from __future__ import annotations

from amaranth.hdl import Module, Signal, Value
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out

from tritape.hw.batch.token_loop import BatchTokenLoop
from tritape.hw.config import Config
from tritape.hw.counters import COUNTERS, MEMORY_ERRORS
from tritape.hw.link.host_link import PATIENCE_BITS, HostLink
from tritape.hw.memory.signature import MemorySignature
from tritape.hw.probe import ProbeSignature
from tritape.hw.token_loop import WATCHDOG_BITS, TokenLoop


class Accelerator(wiring.Component):
    """Obeys a host: prompt tokens in, generated tokens out, all arithmetic of the model inside. Boards and simulators use it.

    Ports:

    - `rx`, `tx`: byte streams of the host protocol (docs/protocol.md).
    - `memory`: requests, words and writes of a memory backend (`MemorySignature` seen from the accelerator), with
      `restart`: high for one cycle when reads under way must be forgotten (the host turns to the memory, or boots a tape).
    - `running`: a token runs; `fault`: the tape was refused or is broken. For LEDs.
    - `probe`: taps for simulation (`ProbeSignature`), an array of them with several slots.
    - `memory_errors`, u16, only with the parameter of that name: `errors` of a memory that has them, for the host to read.

    `watchdog`, `patience`: for tests, of `TokenLoop` and `HostLink`. `memory_words` is what IDENTIFY reports; the host cannot
    reach further. One bitstream runs any tape within the limits of `config`; `config.batch` says
    how many tokens a pass serves. With several slots a restart also sets the counters to zero. Stream rules: those of
    amaranth.lib.stream. Tested: whole tokens of several models, bit for bit against the golden model, under random stalls of
    memory and host (tests/test_hw_accelerator.py); several slots: prompts chained over all of them, independent sequences,
    states that move between slots (tests/test_hw_batch_link.py). Source: docs/architecture.md, docs/contract.md.
    """

    def __init__(
        self,
        config: Config,
        *,
        memory_words: int = (1 << 32) - 1,
        memory_errors: bool = False,
        watchdog: int = WATCHDOG_BITS,
        patience: int = PATIENCE_BITS,
    ) -> None:
        self.config = config
        counters = len(COUNTERS)
        self._link = HostLink(config, memory_words=memory_words, counter_count=counters, patience=patience)
        loop = TokenLoop if config.batch == 1 else BatchTokenLoop
        self._loop: TokenLoop | BatchTokenLoop = loop(config, memory_words=memory_words, watchdog=watchdog)
        probe = Out(ProbeSignature(config.engines))
        super().__init__(
            {
                "rx": In(stream.Signature(8)),
                "tx": Out(stream.Signature(8)),
                "memory": In(MemorySignature(config.word_bytes)),
                "restart": Out(1),
                "running": Out(1),
                "fault": Out(1),
                "probe": probe if config.batch == 1 else probe.array(config.batch),
                **({"memory_errors": In(16)} if memory_errors else {}),
            }
        )

    def elaborate(self, _platform: object) -> Module:
        m, link, loop = Module(), self._link, self._loop
        m.submodules.link, m.submodules.loop = link, loop
        restart = Signal()
        m.d.sync += restart.eq(link.restart)
        m.d.comb += [
            loop.restart.eq(restart),
            self.restart.eq(restart),
            self.running.eq(link.running),
            self.fault.eq(link.fault),
        ]
        wiring.connect(m, wiring.flipped(self.rx), link.rx)
        wiring.connect(m, link.tx, wiring.flipped(self.tx))
        self._build_memory(m)
        wiring.connect(m, link.boot, loop.boot)
        wiring.connect(m, loop.results, link.results)
        wiring.connect(m, loop.logits, link.logits)
        for name in ("configured", "fault", "fault_code", "passing", "state_value", "counter"):
            m.d.comb += getattr(link, name).eq(getattr(loop, name))
        for name in ("state_access", "state_address", "state_write", "state_data", "logits_enable", "counter_index"):
            m.d.comb += getattr(loop, name).eq(getattr(link, name))
        self._build_memory_errors(m, restart)
        if "memory_errors" in self.signature.members:
            with m.If(link.counter_index == MEMORY_ERRORS):
                m.d.comb += link.counter.eq(self.memory_errors)
        if isinstance(loop, TokenLoop):
            self._build_token(m, loop)
        else:
            self._build_step(m, loop)
        return m

    def _build_memory(self, m: Module) -> None:
        """The memory is the host's in memory mode, else the loop's; only the host writes."""
        link, loop = self._link, self._loop
        wiring.connect(m, link.write, wiring.flipped(self.memory.write))
        with m.If(link.memory_mode):
            wiring.connect(m, link.requests, wiring.flipped(self.memory.requests))
            wiring.connect(m, wiring.flipped(self.memory.words), link.words)
        with m.Else():
            wiring.connect(m, loop.memory.requests, wiring.flipped(self.memory.requests))
            wiring.connect(m, wiring.flipped(self.memory.words), loop.memory.words)

    def _build_memory_errors(self, m: Module, restart: Value) -> None:
        """Errors of reading that concern the tape, since the restart."""
        link, read_error = self._link, Signal()
        with m.If(restart):
            m.d.sync += read_error.eq(0)
        with m.Elif(self.memory.read_failed & ~link.memory_mode):
            m.d.sync += read_error.eq(1)
        m.d.comb += [
            link.damaged.eq(self._loop.damaged | read_error),
            link.read_failed.eq(self.memory.read_failed & link.memory_mode),
            link.write_failed.eq(self.memory.write_failed),
        ]

    def _build_token(self, m: Module, loop: TokenLoop) -> None:
        """What is different for one token a pass."""
        link = self._link
        wiring.connect(m, link.tokens, loop.tokens)
        wiring.connect(m, loop.probe, wiring.flipped(self.probe))
        for name in ("inv_temperature", "seed", "reseed", "running"):
            m.d.comb += getattr(loop, name).eq(getattr(link, name))

    def _build_step(self, m: Module, loop: BatchTokenLoop) -> None:
        """What is different for several."""
        link = self._link
        wiring.connect(m, link.steps, loop.steps)
        m.d.comb += loop.slot.eq(link.slot)
        for index in range(self.config.batch):
            wiring.connect(m, loop.probe[index], wiring.flipped(self.probe[index]))
            m.d.comb += [
                loop.inv_temperature[index].eq(link.inv_temperature[index]),
                loop.seed[index].eq(link.seed),
                loop.reseed[index].eq(link.reseed & (link.slot == index)),
            ]
