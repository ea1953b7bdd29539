"""Several slots with the host link: what `Accelerator` is for one."""

from __future__ import annotations

from amaranth.hdl import Module, ResetInserter, Signal
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out

from tritape.hw.accelerator import COUNTERS, MEMORY_ERRORS, Accelerator, ProbeSignature
from tritape.hw.batch.token_loop import BatchTokenLoop
from tritape.hw.config import Config
from tritape.hw.link.host_link import HostLink
from tritape.hw.memory.signature import MemorySignature


class BatchAccelerator(wiring.Component):
    """`BatchTokenLoop` behind a `HostLink`: host bytes in, T tokens a pass over the tape.

    Ports, `memory_words` and `memory_errors`: those of `Accelerator`, but `probe` is an array of T. The counters begin again
    where the token loop is reset: before memory is written or read, and at BOOT.

    Tested: prompts chained over all slots, independent sequences, states that move between slots, under random stalls of the
    host's bytes, against the golden model (tests/test_hw_batch_link.py). Raises `TritapeError` for one slot.
    Source: docs/protocol.md.
    """

    def __init__(self, config: Config, *, memory_words: int = (1 << 32) - 1, memory_errors: bool = False) -> None:
        self._core = BatchTokenLoop(config, memory_words=memory_words)
        self._link = HostLink(config, memory_words=memory_words, counter_count=len(COUNTERS))
        super().__init__(
            {
                "rx": In(stream.Signature(8)),
                "tx": Out(stream.Signature(8)),
                "memory": In(MemorySignature(config.word_bytes)),
                "restart": Out(1),
                "running": Out(1),
                "fault": Out(1),
                "probe": Out(ProbeSignature(config.engines)).array(config.batch),
                **({"memory_errors": In(16)} if memory_errors else {}),
            }
        )

    def elaborate(self, _platform: object) -> Module:
        m, link, core = Module(), self._link, self._core
        m.submodules.link = link
        restart = Signal()
        m.submodules.core = ResetInserter(restart)(core)
        m.d.sync += restart.eq(link.restart)
        wiring.connect(m, wiring.flipped(self.rx), link.rx)
        wiring.connect(m, link.tx, wiring.flipped(self.tx))
        for source, target in (
            (link.boot, core.boot),
            (link.steps, core.steps),
            (core.results, link.results),
            (core.logits, link.logits),
        ):
            wiring.connect(m, source, target)

        def pipe(source: stream.Interface, target: stream.Interface) -> None:
            m.d.comb += [target.payload.eq(source.payload), target.valid.eq(source.valid)]
            m.d.comb += source.ready.eq(target.ready)

        pipe(link.write, self.memory.write)
        with m.If(link.memory_mode):
            pipe(link.requests, self.memory.requests)
            pipe(self.memory.words, link.words)
        with m.Else():
            pipe(core.memory.requests, self.memory.requests)
            pipe(self.memory.words, core.memory.words)

        for name in ("configured", "fault", "fault_code", "state_value"):
            m.d.comb += getattr(link, name).eq(getattr(core, name))
        for name in (
            "slot",
            "state_access",
            "state_address",
            "state_write",
            "state_data",
            "logits_enable",
            "counter_index",
        ):
            m.d.comb += getattr(core, name).eq(getattr(link, name))
        for index in range(self._core.config.batch):
            m.d.comb += [
                core.inv_temperature[index].eq(link.inv_temperature[index]),
                core.seed[index].eq(link.seed),
                core.reseed[index].eq(link.reseed & (link.slot == index)),
            ]
            wiring.connect(m, core.probe[index], wiring.flipped(self.probe[index]))
        m.d.comb += [
            link.counter.eq(core.counter),
            self.restart.eq(restart),
            self.running.eq(link.running),
            self.fault.eq(link.fault),
        ]
        with m.If(link.counter_index == MEMORY_ERRORS):
            m.d.comb += link.counter.eq(self.memory_errors if "memory_errors" in self.signature.members else 0)
        return m


def accelerator(
    config: Config, *, memory_words: int = (1 << 32) - 1, memory_errors: bool = False
) -> Accelerator | BatchAccelerator:
    """The accelerator of a configuration with its host link, for one slot or several."""
    kind = Accelerator if config.batch == 1 else BatchAccelerator
    return kind(config, memory_words=memory_words, memory_errors=memory_errors)
