"""The token loop for several tokens a pass: one tape, one sequencer, and a slot for each token."""

from __future__ import annotations

from amaranth.hdl import Cat, Elaboratable, Module, ResetInserter, Signal, Value, signed
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from tritape.base.errors import TritapeError
from tritape.hw.batch.slot import Slot
from tritape.hw.commands import VECTOR_COMMANDS
from tritape.hw.config import Config
from tritape.hw.counters import COUNTERS, count
from tritape.hw.memory.signature import MemorySignature
from tritape.hw.probe import PROBES, ProbeSignature
from tritape.hw.stream.broadcast import Broadcast
from tritape.hw.stream.pulse_join import PulseJoin
from tritape.hw.tape.header import FAULT_BITS
from tritape.hw.tape.reader import NUMBERS, SlotRequest, TapeReader
from tritape.hw.tape.sequencer import Sequencer
from tritape.hw.token_loop import WATCHDOG_BITS
from tritape.hw.vector.ports import SATURATED

_WAITS = ("wait_output", "wait_tables", "wait_activations")  # the first that a slot reports is counted


class BatchTokenLoop(wiring.Component):
    """T tokens in, one pass over the tape, T tokens out; T is `config.batch`, at least 2. `Accelerator` puts a host link before
    it; `TokenLoop` is the same for one token.

    Ports
        memory: requests and words of a memory backend (its writes are the owner's).
        restart: In, high for one cycle: everything begins again, the counters too.
        boot: In stream, one transfer after a restart starts reading the tape. configured, fault, fault_code: its outcome.
        damaged, passing: as of `TokenLoop`.
        steps: In stream of T `SlotRequest`, taken when the results of the step before were taken; results: Out stream
            of T u16, what each slot chose (no meaning where it was not active).
            `chain` needs the slot before, in the ring of slots, to be active; not all may chain.
        For each slot, arrays of T: inv_temperature u17, which must not change while a step runs; seed u32 and reseed u1, as of
            `Sampler`. A slot that is not active, or whose inv_temperature is 0, does not step its generator.
        state_access, state_address, state_write, state_data, state_value: as in `VectorSignature`, of `slot`, only while no
            step runs. logits_enable, logits: the same, of `slot`, which must not change meanwhile.
        counter_index, counter: `COUNTERS` of all slots together, a cycle later; cycles and tokens count steps. A stall counts
            once, for the first of output, fill, dependency that any slot has.
        running: a step runs. probe: T `ProbeSignature`.

    A step of one active slot gives what `TokenLoop` gives for its token; a chain gives what its tokens give one after the
    other. Cost: T engines and vector paths. Tested: T = 2, 3, E = 1, 2, independent and chained tokens, random memory stalls,
    bit for bit against the golden model (tests/test_hw_batch.py). Raises `TritapeError` for one slot.
    Source: docs/decisions/0006-batch.md.
    """

    def __init__(self, config: Config, *, memory_words: int = (1 << 32) - 1, watchdog: int = WATCHDOG_BITS) -> None:
        if config.batch < 2:
            raise TritapeError(f"batch must be at least 2 here, not {config.batch!r}; one slot has a TokenLoop")
        self.config = config
        self.memory_words = memory_words
        self.watchdog = watchdog
        batch = config.batch
        super().__init__(
            {
                "memory": In(MemorySignature(config.word_bytes)),
                "restart": In(1),
                "boot": In(stream.Signature(1)),
                "configured": Out(1),
                "fault": Out(1),
                "fault_code": Out(FAULT_BITS),
                "damaged": Out(1),
                "passing": Out(1),
                "steps": In(stream.Signature(data.ArrayLayout(SlotRequest, batch))),
                "results": Out(stream.Signature(data.ArrayLayout(16, batch))),
                "inv_temperature": In(17).array(batch),
                "seed": In(32).array(batch),
                "reseed": In(1).array(batch),
                "slot": In(range(batch)),
                "state_access": In(1),
                "state_address": In(20),
                "state_write": In(1),
                "state_data": In(18),
                "state_value": Out(18),
                "logits_enable": In(1),
                "logits": Out(stream.Signature(signed(18))),
                "counter_index": In(range(len(COUNTERS) + 1)),
                "counter": Out(32),
                "running": Out(1),
                "probe": Out(ProbeSignature(config.engines)).array(batch),
            }
        )

    def elaborate(self, _platform: object) -> Elaboratable:
        m, config = Module(), self.config
        address_bits = max(1, (self.memory_words - 1).bit_length())
        m.submodules.reader = reader = TapeReader(config.word_bytes, address_bits=address_bits, batch=config.batch)
        m.submodules.sequencer = sequencer = Sequencer(config, address_bits=address_bits)
        slots = [Slot(config) for _ in range(config.batch)]
        for index, slot in enumerate(slots):
            m.submodules[f"slot_{index}"] = slot

        wiring.connect(m, wiring.flipped(self.boot), reader.boot)
        wiring.connect(m, reader.requests, wiring.flipped(self.memory.requests))
        wiring.connect(m, wiring.flipped(self.memory.words), sequencer.words)
        m.d.comb += [
            reader.configured.eq(sequencer.configured),
            *(getattr(reader, name).eq(getattr(sequencer, name)) for name in NUMBERS),
            reader.finished.eq(sequencer.finished),
            sequencer.token.eq(reader.step[sequencer.slot].token),
            self.configured.eq(sequencer.configured),
            self.fault.eq(sequencer.fault),
            self.fault_code.eq(sequencer.fault_code),
            self.damaged.eq(sequencer.first_bad_valid),
            self.passing.eq(sequencer.passing),
        ]
        timer = Signal(self.watchdog + 1)
        m.d.sync += timer.eq(timer + 1)
        waits = self.steps.valid | self.running | sequencer.passing
        m.d.comb += [sequencer.tick.eq(timer[-1]), sequencer.paused.eq(~waits | self.logits.valid)]
        self._steps(m, reader, slots)

        # Everything that the sequencer says goes to all slots; only an embedding row is for one.
        for name in ("weights", "parameters", "engine_commands", *VECTOR_COMMANDS):
            source = getattr(sequencer, name)
            m.submodules[f"{name}_broadcast"] = broadcast = Broadcast(source.payload.shape(), config.batch)
            wiring.connect(m, source, broadcast.source)
            for slot, target in zip(slots, broadcast.targets):
                wiring.connect(m, target, getattr(slot, name))
        words = sequencer.embedding_words
        for index, slot in enumerate(slots):
            mine = sequencer.slot == index
            m.d.comb += [
                slot.embedding_words.payload.eq(words.payload),
                slot.embedding_words.valid.eq(words.valid & mine),
            ]
            with m.If(mine):
                m.d.comb += words.ready.eq(slot.embedding_words.ready)
        m.submodules.norm_done = done = PulseJoin(config.batch)
        m.d.comb += [done.pulses.eq(Cat(slot.norm_done for slot in slots)), sequencer.norm_done.eq(done.joined)]

        self._selected(m, slots)
        self._counters(m, sequencer, slots)
        for slot, probe in zip(slots, self.probe):
            for name in PROBES:
                m.d.comb += [
                    getattr(probe, f"{name}_valid").eq(getattr(slot, f"{name}_valid")),
                    getattr(probe, name).eq(getattr(slot, name)),
                ]
        return ResetInserter(self.restart)(m)

    def _steps(self, m: Module, reader: TapeReader, slots: list[Slot]) -> None:
        """A step from its tokens to its results, and what it tells each slot."""
        results, running = self.results, self.running
        m.d.comb += [
            reader.tokens.payload.eq(self.steps.payload),
            reader.tokens.valid.eq(self.steps.valid & ~running),
            self.steps.ready.eq(reader.tokens.ready & ~running),
            results.valid.eq(Cat(slot.tokens.valid for slot in slots).all()),
        ]
        with m.If(self.steps.valid & self.steps.ready):
            m.d.sync += running.eq(1)
        with m.If(results.valid & results.ready):
            m.d.sync += running.eq(0)
        for index, slot in enumerate(slots):
            mine, following = reader.step[index], slots[(index + 1) % len(slots)]
            m.d.comb += [
                results.payload[index].eq(slot.tokens.payload),
                slot.tokens.ready.eq(results.valid & results.ready),
                slot.active.eq(mine.active),
                slot.fresh.eq(mine.fresh & ~mine.chain),
                slot.chain.eq(mine.chain),
                slot.give.eq(following.chain),
                slot.seed.eq(self.seed[index]),
                slot.reseed.eq(self.reseed[index]),
            ]
            m.d.sync += slot.inv_temperature.eq(self.inv_temperature[index] & mine.active.replicate(17))
            for after, before in zip(slot.after, following.before):
                wiring.connect(m, after, before)

    def _selected(self, m: Module, slots: list[Slot]) -> None:
        """The recurrent state and the logits of one slot for the host."""
        for index, slot in enumerate(slots):
            mine = self.slot == index
            m.d.comb += [
                slot.state_access.eq(self.state_access & mine),
                slot.state_address.eq(self.state_address),
                slot.state_write.eq(self.state_write & mine),
                slot.state_data.eq(self.state_data),
                slot.logits_enable.eq(self.logits_enable & mine),
                slot.logits.ready.eq(self.logits.ready & mine),
            ]
            with m.If(mine):
                m.d.comb += [
                    self.state_value.eq(slot.state_value),
                    self.logits.payload.eq(slot.logits.payload),
                    self.logits.valid.eq(slot.logits.valid),
                ]

    def _counters(self, m: Module, sequencer: Sequencer, slots: list[Slot]) -> None:
        """Counters in the order of `COUNTERS`."""
        took = slots[0].streaming  # all take the same words
        waits = [Cat(getattr(slot, name) for slot in slots).any() for name in _WAITS]
        output, fill, dependency = (wait & ~Cat(waits[:index]).any() & ~took for index, wait in enumerate(waits))
        events: dict[str, Value] = {
            "running": self.running,
            "tokens": self.results.valid & self.results.ready,
            "streaming": took,
            "stall_memory": self.running & ~took & ~Cat(waits).any(),
            "stall_fill": self.running & fill,
            "stall_dependency": self.running & dependency,
            "stall_output": self.running & output,
        }
        for name in ("rows", *SATURATED):
            clamps = [getattr(slot, f"saturated_{name}") for slot in slots]
            counted = [clamp & slot.active.replicate(len(clamp)) for clamp, slot in zip(clamps, slots)]
            events[f"saturated_{name}"] = sum(counted, start=Value.cast(0))
        registers: dict[str, Value] = {
            "crc_errors": sequencer.crc_errors,
            "first_bad_section": sequencer.first_bad_section,
            "fault_code": sequencer.fault_code,
        }
        counter = Signal(32)
        count(m, events, registers, self.counter_index, counter)
        m.d.sync += self.counter.eq(counter)
