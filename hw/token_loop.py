"""The token loop for one token a pass: tape reader, sequencer, engine and vector path, between a memory and a host link."""

from __future__ import annotations

from amaranth.hdl import Cat, Module, ResetInserter, Signal, Value, signed
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out

from tritape.base.errors import TritapeError
from tritape.hw.commands import VECTOR_COMMANDS, EngineCommand
from tritape.hw.config import Config
from tritape.hw.counters import COUNTERS, SERIAL_COUNTERS, count
from tritape.hw.engine.choice import engine_of
from tritape.hw.engine.engine import Engine
from tritape.hw.memory.signature import MemorySignature
from tritape.hw.probe import ProbeSignature
from tritape.hw.stream.queue import CommandQueue
from tritape.hw.tape.header import FAULT_BITS
from tritape.hw.tape.reader import NUMBERS, TapeReader, TokenRequest
from tritape.hw.tape.sequencer import Sequencer
from tritape.hw.vector.pipelined import PipelinedVector
from tritape.hw.vector.ports import SATURATED, TAPS
from tritape.hw.vector.serial import SerialVector

SHARED = (
    "logits_enable",
    "state_access",
    "state_address",
    "state_write",
    "state_data",
    "inv_temperature",
    "seed",
    "reseed",
)
"""Inputs of the vector path that the loop hands on."""

WATCHDOG_BITS = 20
"""A token that gets no word of its tape for 2^20 to 2^21 cycles, and does not wait for the host, is a fault (STARVED)."""


class TokenLoop(wiring.Component):
    """A token in, one pass over the tape, a token out. `BatchTokenLoop` is the same for several tokens a pass.

    Ports
        memory: requests and words of a memory backend (its writes are the owner's).
        restart: In, high for one cycle: everything but the counters begins again.
        boot: In stream, one transfer after a restart starts reading the tape. configured, fault, fault_code (`Fault`): its
        outcome. damaged: Out, a section with a wrong CRC or a fault since the restart. passing: Out, of `Sequencer`.
        tokens: In stream of `TokenRequest`; results: Out stream of u16, the token that the head chose.
        inv_temperature u17, seed u32, reseed: In, of `Sampler`.
        state_access, state_address, state_write, state_data, state_value: as in `VectorSignature`, only while no token runs.
        logits_enable, logits: the same.
        counter_index, counter: `COUNTERS`, a cycle later (in the same cycle where the configuration is serial).
        running: In, a token runs, for the counters. probe: Out, `ProbeSignature`.

    Streams: those of amaranth.lib.stream. Latency and cost: those of the units. Tested inside `Accelerator`.
    `watchdog`: for tests, another number of bits than `WATCHDOG_BITS`. Raises `TritapeError` for several slots.
    Source: docs/architecture.md, docs/contract.md.
    """

    def __init__(self, config: Config, *, memory_words: int = (1 << 32) - 1, watchdog: int = WATCHDOG_BITS) -> None:
        if config.batch != 1:
            raise TritapeError(f"batch must be 1 here, not {config.batch!r}; several slots have a BatchTokenLoop")
        self.config = config
        self.memory_words = memory_words
        self.watchdog = watchdog
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
                "tokens": In(stream.Signature(TokenRequest)),
                "results": Out(stream.Signature(16)),
                "inv_temperature": In(17),
                "seed": In(32),
                "reseed": In(1),
                "state_access": In(1),
                "state_address": In(20),
                "state_write": In(1),
                "state_data": In(signed(18)),
                "state_value": Out(signed(18)),
                "logits_enable": In(1),
                "logits": Out(stream.Signature(signed(18))),
                "counter_index": In(range(len(COUNTERS) + 1)),
                "counter": Out(32),
                "running": In(1),
                "probe": Out(ProbeSignature(config.engines)),
            }
        )

    def elaborate(self, _platform: object) -> Module:
        m, config = Module(), self.config
        address_bits = max(1, (self.memory_words - 1).bit_length())
        reader = TapeReader(config.word_bytes, address_bits=address_bits)
        sequencer, engine = Sequencer(config, address_bits=address_bits), engine_of(config)
        vector = SerialVector(config) if config.serial else PipelinedVector(config)
        for name, unit in {"reader": reader, "sequencer": sequencer, "engine": engine, "vector": vector}.items():
            m.submodules[name] = ResetInserter(self.restart)(unit)
        self._build_tape(m, reader, sequencer, vector)
        self._build_units(m, sequencer, engine, vector)
        self._build_host(m, vector)
        running = self._build_counters(m, sequencer, engine, vector)
        m.d.comb += [
            sequencer.tick.eq(running[self.watchdog]),
            sequencer.paused.eq(self.logits.valid | ~self.running),
        ]
        self._build_probes(m, engine, vector)
        return m

    def _build_tape(self, m: Module, reader: TapeReader, sequencer: Sequencer, vector: wiring.Component) -> None:
        """Memory to sequencer, and what reader and sequencer tell each other."""
        wiring.connect(m, wiring.flipped(self.boot), reader.boot)
        wiring.connect(m, wiring.flipped(self.tokens), reader.tokens)
        wiring.connect(m, reader.requests, wiring.flipped(self.memory.requests))
        wiring.connect(m, wiring.flipped(self.memory.words), sequencer.words)
        m.d.comb += [
            *(getattr(reader, name).eq(getattr(sequencer, name)) for name in ("configured", "finished", *NUMBERS)),
            sequencer.fresh.eq(reader.fresh),
            sequencer.token.eq(reader.token),
            sequencer.norm_done.eq(vector.norm_done),
            *(
                getattr(self, name).eq(getattr(sequencer, name))
                for name in ("configured", "fault", "fault_code", "passing")
            ),
            self.damaged.eq(sequencer.first_bad_valid),
        ]

    def _build_units(
        self, m: Module, sequencer: Sequencer, engine: Engine, vector: PipelinedVector | SerialVector
    ) -> None:
        """Commands and payloads; the sequencer runs ahead of the engine by a queue unless everything is serial."""
        if self.config.serial:
            wiring.connect(m, sequencer.engine_commands, engine.commands)
        else:
            queue = CommandQueue(EngineCommand)
            m.submodules.engine_queue = ResetInserter(self.restart)(queue)
            wiring.connect(m, sequencer.engine_commands, queue.sender)
            wiring.connect(m, queue.receiver, engine.commands)
        wiring.connect(m, sequencer.weights, engine.weights)
        for name in (*VECTOR_COMMANDS, "embedding_words", "parameters"):
            wiring.connect(m, getattr(sequencer, name), getattr(vector, name))
        for activations, target in zip(vector.activations, engine.activations):
            wiring.connect(m, activations, target)
        wiring.connect(m, engine.rows, vector.rows)

    def _build_host(self, m: Module, vector: PipelinedVector | SerialVector) -> None:
        """Tokens, logits, state and sampler."""
        wiring.connect(m, vector.tokens, wiring.flipped(self.results))
        wiring.connect(m, vector.logits, wiring.flipped(self.logits))
        m.d.comb += [getattr(vector, name).eq(getattr(self, name)) for name in SHARED]
        m.d.comb += self.state_value.eq(vector.state_value)

    def _build_counters(
        self, m: Module, sequencer: Sequencer, engine: Engine, vector: PipelinedVector | SerialVector
    ) -> Value:
        """`COUNTERS`, which a restart leaves alone. Returns: the cycles in which a token ran."""
        events: dict[str, Value] = {
            "running": self.running,
            "streaming": engine.streaming & self.running,
            "stall_memory": engine.wait_weights & self.running,
            "stall_fill": engine.wait_tables & self.running,
            "stall_dependency": engine.wait_activations & self.running,
            "stall_output": engine.wait_output & self.running,
            "tokens": vector.tokens.valid & vector.tokens.ready,
            "saturated_rows": engine.saturated,
            **{f"saturated_{name}": getattr(vector, f"saturated_{name}") for name in SATURATED},
        }
        if self.config.serial:
            events = {name: events[name] for name in SERIAL_COUNTERS}
        registers = {name: getattr(sequencer, name) for name in ("crc_errors", "first_bad_section", "fault_code")}
        counter = Signal(32)
        values = count(m, events, registers, self.counter_index, counter)
        if self.config.serial:
            m.d.comb += self.counter.eq(counter)
        else:
            m.d.sync += self.counter.eq(counter)
        return values["running"]

    def _build_probes(self, m: Module, engine: Engine, vector: PipelinedVector | SerialVector) -> None:
        """Taps on transfers between units."""
        activations = vector.activations[0]
        m.d.comb += [
            self.probe.activation_valid.eq(activations.valid & activations.ready),
            self.probe.activation.eq(Cat(lane.payload.value for lane in vector.activations)),
            self.probe.row_valid.eq(engine.rows.valid & engine.rows.ready),
            self.probe.row.eq(engine.rows.payload),
        ]
        for name in (*TAPS, *(f"{name}_valid" for name in TAPS)):
            m.d.comb += getattr(self.probe, name).eq(getattr(vector, name))
