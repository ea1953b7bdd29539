"""The accelerator: every unit of the token loop wired together, from host bytes to tokens, around a memory port."""

from __future__ import annotations

from amaranth.hdl import Cat, Module, ResetInserter, Signal, Value
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out

from tritape.base.errors import TritapeError
from tritape.hw.commands import EngineCommand
from tritape.hw.config import Config
from tritape.hw.engine.table_engine import TableEngine
from tritape.hw.link.host_link import HostLink
from tritape.hw.memory.signature import MemorySignature
from tritape.hw.stream.queue import CommandQueue
from tritape.hw.tape.reader import TapeReader
from tritape.hw.tape.sequencer import Sequencer
from tritape.hw.vector.pipelined import PipelinedVector
from tritape.hw.vector.ports import SATURATED, TAPS
from tritape.hw.vector.serial import SerialVector

COUNTERS = (
    "running",  # cycles from a token's start to its result
    "tokens",  # results
    "streaming",  # cycles in which the engine took a row slice
    "stall_memory",  # engine ready, no weight word
    "stall_fill",  # engine waits for tables
    "stall_dependency",  # engine waits for activations
    "stall_output",  # engine waits for the units behind it
    "saturated_rows",
    "saturated_dequantiser",
    "saturated_mlgru",
    "saturated_mixer",
    "saturated_residual",
    "crc_errors",
    "first_bad_section",
    "fault_code",
)
"""Counters of 32 bits in the order in which COUNTERS sends them. Cycle counters count only while a token runs."""

MEMORY_ERRORS = len(COUNTERS)
"""Place of one more: errors that the memory tells of, 0 where it cannot."""

SERIAL_COUNTERS = ("running",)
"""Those that a serial configuration counts, besides the registers of the sequencer; the others read 0."""

PROBES = ("activation", "row", "value", "vector", "logit")
"""Taps on what units put out, for simulation; left open in a bitstream they cost nothing."""


class ProbeSignature(wiring.Signature):
    """For each of `PROBES`: `NAME_valid`, high for one cycle a slice, and `NAME`, E signed elements (8 bits for activation, 18
    for the rest): quantised activations, row sums, dequantised values, elements as the residual unit writes them; logits
    come one by one."""

    def __init__(self, engines: int = 1) -> None:
        members = {}
        for name in PROBES:
            members[f"{name}_valid"] = Out(1)
            members[name] = Out((8 if name == "activation" else 18) * (1 if name == "logit" else engines))
        super().__init__(members)


class Accelerator(wiring.Component):
    """A whole token loop: prompt tokens in, generated tokens out, all arithmetic of the model inside.

    Ports:

    - `rx`, `tx`: byte streams of the host protocol (docs/protocol.md).
    - `memory`: requests, words and writes of a memory backend (`MemorySignature` seen from the accelerator), with
      `restart`: high for one cycle when reads under way must be forgotten (the host turns to the memory, or boots a tape).
    - `running`: a token runs; `fault`: the tape was refused or is broken. For LEDs.
    - `probe`: taps for simulation (`ProbeSignature`).
    - `memory_errors`, u16, only with the parameter of that name: `errors` of a memory that has them, for the host to read.

    `memory_words` is what IDENTIFY reports. One bitstream runs any tape within the limits of `config`. Stream rules: those
    of amaranth.lib.stream. Tested: whole tokens of several models, bit for bit against the golden model, under random
    stalls of memory and host (tests/test_hw_accelerator.py). Raises `TritapeError` for several slots.
    Source: docs/architecture.md, docs/contract.md.
    """

    def __init__(self, config: Config, *, memory_words: int = (1 << 32) - 1, memory_errors: bool = False) -> None:
        if config.batch != 1:
            raise TritapeError(
                f"batch must be 1 in an accelerator with a host link, not {config.batch!r}; several have a BatchTokenLoop"
            )
        self.config = config
        self.memory_words = memory_words
        super().__init__(
            {
                "rx": In(stream.Signature(8)),
                "tx": Out(stream.Signature(8)),
                "memory": In(MemorySignature(config.word_bytes)),
                "restart": Out(1),
                "running": Out(1),
                "fault": Out(1),
                "probe": Out(ProbeSignature(config.engines)),
                **({"memory_errors": In(16)} if memory_errors else {}),
            }
        )

    def elaborate(self, _platform: object) -> Module:
        m = Module()
        config = self.config
        m.submodules.link = link = HostLink(config, memory_words=self.memory_words, counter_count=len(COUNTERS))
        restart = Signal()
        m.d.sync += restart.eq(link.restart)
        m.d.comb += [self.restart.eq(restart), self.running.eq(link.running), self.fault.eq(link.fault)]

        def core(component: wiring.Component) -> wiring.Component:
            return ResetInserter(restart)(component)

        address_bits = max(1, (self.memory_words - 1).bit_length())
        reader = TapeReader(config.word_bytes, address_bits=address_bits)
        sequencer, engine = Sequencer(config, address_bits=address_bits), TableEngine(config)
        vector = SerialVector(config) if config.serial else PipelinedVector(config)
        units = {"reader": reader, "sequencer": sequencer, "engine": engine, "vector": vector}
        for name, unit in units.items():
            m.submodules[name] = core(unit)

        def pipe(source: stream.Interface, target: stream.Interface) -> None:
            """Connect two streams whose payloads have the same bits but perhaps differently named types."""
            m.d.comb += [
                Cat(target.payload).eq(source.payload),
                target.valid.eq(source.valid),
                source.ready.eq(target.ready),
            ]

        # The tape.
        pipe(link.boot, reader.boot)
        pipe(link.tokens, reader.tokens)
        pipe(link.write, self.memory.write)
        with m.If(link.memory_mode):
            pipe(link.requests, self.memory.requests)
            pipe(self.memory.words, link.words)
        with m.Else():
            pipe(reader.requests, self.memory.requests)
            pipe(self.memory.words, sequencer.words)
        m.d.comb += [
            reader.configured.eq(sequencer.configured),
            *(
                getattr(reader, name).eq(getattr(sequencer, name))
                for name in (
                    "prologue_address",
                    "prologue_words",
                    "body_address",
                    "body_words",
                    "embedding_address",
                    "row_words",
                )
            ),
            reader.finished.eq(sequencer.finished),
            sequencer.fresh.eq(reader.fresh),
            sequencer.norm_done.eq(vector.norm_done),
            link.configured.eq(sequencer.configured),
            link.fault.eq(sequencer.fault),
            link.fault_code.eq(sequencer.fault_code),
        ]

        # Commands and payloads of the sequencer, which runs ahead of the engine by a queue unless everything is serial.
        if config.serial:
            pipe(sequencer.engine_commands, engine.commands)
        else:
            m.submodules.engine_queue = queue = core(CommandQueue(EngineCommand))
            pipe(sequencer.engine_commands, queue.sender)
            pipe(queue.receiver, engine.commands)
        pipe(sequencer.weights, engine.weights)
        for name in ("residual", "norm", "dequantiser", "mlgru", "mixer", "head", "embedding"):
            pipe(getattr(sequencer, f"{name}_commands"), getattr(vector, f"{name}_commands"))
        pipe(sequencer.embedding_words, vector.embedding_words)
        pipe(sequencer.parameters, vector.parameters)
        for activations, target in zip(vector.activations, engine.activations):
            pipe(activations, target)
        pipe(engine.rows, vector.rows)

        # The head and the host.
        pipe(vector.tokens, link.results)
        pipe(vector.logits, link.logits)
        m.d.comb += [
            vector.logits_enable.eq(link.logits_enable),
            vector.state_access.eq(link.state_access),
            vector.state_address.eq(link.state_address),
            vector.state_write.eq(link.state_write),
            vector.state_data.eq(link.state_data),
            link.state_value.eq(vector.state_value),
            vector.inv_temperature.eq(link.inv_temperature),
            vector.seed.eq(link.seed),
            vector.reseed.eq(link.reseed),
        ]
        pipe(self.rx, link.rx)
        pipe(link.tx, self.tx)
        self._counters(m, link, units)
        self._probes(m, units)
        return m

    def _counters(self, m: Module, link: HostLink, units: dict[str, wiring.Component]) -> None:
        """Counters in the order of `COUNTERS`."""
        engine, sequencer, vector = units["engine"], units["sequencer"], units["vector"]
        while_running = {
            "running": 1,
            "streaming": engine.streaming,
            "stall_memory": engine.wait_weights,
            "stall_fill": engine.wait_tables,
            "stall_dependency": engine.wait_activations,
            "stall_output": engine.wait_output,
        }
        events = {"tokens": vector.tokens.valid & vector.tokens.ready}
        events["saturated_rows"] = engine.saturated
        events |= {f"saturated_{name}": getattr(vector, f"saturated_{name}") for name in SATURATED}
        registers: dict[str, Value] = {
            "crc_errors": sequencer.crc_errors,
            "first_bad_section": sequencer.first_bad_section,
            "fault_code": sequencer.fault_code,
        }
        if "memory_errors" in self.signature.members:
            registers["memory_errors"] = self.memory_errors
        places = {name: place for place, name in enumerate((*COUNTERS, "memory_errors"))}
        values = dict(registers)
        counted = SERIAL_COUNTERS if self.config.serial else COUNTERS
        for name in counted:
            if name not in events and name not in while_running:
                continue
            limit = self.config.engines if name.startswith("saturated") else 1
            event = Signal(range(limit + 1), name=f"count_{name}")  # registered: counting one cycle late costs no path
            values[name] = value = Signal(32, name=name)
            m.d.sync += event.eq(while_running[name] & link.running if name in while_running else events[name])
            with m.If(event.any()):
                m.d.sync += value.eq(value + event)
        counter = Signal(32)
        with m.Switch(link.counter_index):
            for name, value in values.items():
                with m.Case(places[name]):
                    m.d.comb += counter.eq(value)
        if self.config.serial:
            m.d.comb += link.counter.eq(counter)
        else:
            m.d.sync += link.counter.eq(counter)

    def _probes(self, m: Module, units: dict[str, wiring.Component]) -> None:
        """Taps on transfers between units."""
        vector, engine = units["vector"], units["engine"]
        activations = vector.activations[0]
        m.d.comb += [
            self.probe.activation_valid.eq(activations.valid & activations.ready),
            self.probe.activation.eq(Cat(lane.payload.value for lane in vector.activations)),
            self.probe.row_valid.eq(engine.rows.valid & engine.rows.ready),
            self.probe.row.eq(engine.rows.payload),
        ]
        for name in TAPS:
            m.d.comb += [
                getattr(self.probe, f"{name}_valid").eq(getattr(vector, f"{name}_valid")),
                getattr(self.probe, name).eq(getattr(vector, name)),
            ]
