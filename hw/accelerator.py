"""The accelerator: every unit of the token loop wired together, from host bytes to tokens, around a memory port."""

from __future__ import annotations

from amaranth.hdl import Cat, Const, Module, ResetInserter, Signal, signed
from amaranth.lib import fifo, stream, wiring
from amaranth.lib.wiring import In, Out

from tritape.hw.config import Config
from tritape.hw.engine.table_engine import TableEngine
from tritape.hw.head.head import Head
from tritape.hw.link.host_link import HostLink
from tritape.hw.memory.signature import MemorySignature
from tritape.hw.mixer.channel_mixer import ChannelMixer
from tritape.hw.mixer.mlgru import MLGRU
from tritape.hw.mixer.residual import Residual
from tritape.hw.norm.dequantiser import Dequantiser
from tritape.hw.norm.rmsnorm import RMSNorm
from tritape.hw.norm.skid import Skid
from tritape.hw.tape.embedding import Embedding
from tritape.hw.tape.reader import TapeReader
from tritape.hw.tape.sequencer import Sequencer

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

PROBES = ("activation", "row", "value", "vector", "logit")
"""Taps on what units put out, for simulation; left open in a bitstream they cost nothing."""


class ProbeSignature(wiring.Signature):
    """For each of `PROBES`: `NAME_valid`, high for one cycle an element, and `NAME`, signed (8 bits for activation, 18 for
    the rest): quantised activations, row sums, dequantised values, elements as the residual unit writes them, logits."""

    def __init__(self) -> None:
        members = {}
        for name in PROBES:
            members[f"{name}_valid"] = Out(1)
            members[name] = Out(signed(8 if name == "activation" else 18))
        super().__init__(members)


class Accelerator(wiring.Component):
    """A whole token loop: prompt tokens in, generated tokens out, all arithmetic of the model inside.

    Ports:

    - `rx`, `tx`: byte streams of the host protocol (docs/protocol.md).
    - `memory`: requests, words and writes of a memory backend (`MemorySignature` seen from the accelerator), with
      `restart`: high for one cycle when reads under way must be forgotten (a tape is booted).
    - `probe`: taps for simulation (`ProbeSignature`).

    `memory_words` is what IDENTIFY reports. One bitstream runs any tape within the limits of `config`. Stream rules: those
    of amaranth.lib.stream. Tested: whole tokens of several models, bit for bit against the golden model, under random
    stalls of memory and host (tests/test_hw_accelerator.py). Source: docs/architecture.md, docs/contract.md.
    """

    def __init__(self, config: Config, *, memory_words: int = (1 << 32) - 1) -> None:
        self.config = config
        self.memory_words = memory_words
        super().__init__(
            {
                "rx": In(stream.Signature(8)),
                "tx": Out(stream.Signature(8)),
                "memory": In(MemorySignature(config.groups)),
                "restart": Out(1),
                "probe": Out(ProbeSignature()),
            }
        )

    def elaborate(self, _platform: object) -> Module:
        m = Module()
        config = self.config
        groups = config.groups
        m.submodules.link = link = HostLink(config, memory_words=self.memory_words, counter_count=len(COUNTERS))
        restart = Signal()
        m.d.sync += restart.eq(link.restart)
        m.d.comb += self.restart.eq(restart)

        def core(component: wiring.Component) -> wiring.Component:
            return ResetInserter(restart)(component)

        reader, sequencer = TapeReader(groups), Sequencer(config)
        engine = TableEngine(config)
        norm = RMSNorm(groups, config.max_length)
        residual = Residual(config.max_hidden, config.max_intermediate)
        dequantiser = Dequantiser()
        mlgru = MLGRU(groups, config.max_hidden, config.max_layers)
        mixer = ChannelMixer()
        embedding = Embedding(groups)
        head = Head(config.max_vocab)
        units = {
            "reader": reader, "sequencer": sequencer, "engine": engine, "norm": norm, "residual": residual,
            "dequantiser": dequantiser, "mlgru": mlgru, "mixer": mixer, "embedding": embedding, "head": head,
        }  # fmt: skip
        for name, unit in units.items():
            m.submodules[name] = core(unit)

        def queue(name: str, source: stream.Interface, target: stream.Interface, depth: int = 4) -> None:
            """Connect two streams of equal width through a FIFO, so that the sequencer may run ahead."""
            width = len(Cat(source.payload))
            buffer = fifo.SyncFIFOBuffered(width=width, depth=depth)
            m.submodules[f"{name}_queue"] = core(buffer)
            m.d.comb += [
                buffer.w_data.eq(source.payload),
                buffer.w_en.eq(source.valid),
                source.ready.eq(buffer.w_rdy),
                Cat(target.payload).eq(buffer.r_data),
                target.valid.eq(buffer.r_rdy),
                buffer.r_en.eq(target.ready),
            ]

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
        pipe(reader.requests, self.memory.requests)
        pipe(link.write, self.memory.write)
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
            sequencer.norm_done.eq(norm.done),
            link.configured.eq(sequencer.configured),
            link.fault.eq(sequencer.fault),
            link.fault_code.eq(sequencer.fault_code),
            link.vocabulary.eq(sequencer.vocabulary),
        ]

        # Commands and payloads of the sequencer.
        queue("engine", sequencer.engine_commands, engine.commands)
        queue("residual", sequencer.residual_commands, residual.commands)
        queue("norm", sequencer.norm_commands, norm.commands)
        queue("dequantiser", sequencer.dequantiser_commands, dequantiser.commands)
        queue("mlgru", sequencer.mlgru_commands, mlgru.commands)
        queue("mixer", sequencer.mixer_commands, mixer.commands)
        queue("head", sequencer.head_commands, head.commands)
        pipe(sequencer.embedding_commands, embedding.commands)
        pipe(sequencer.embedding_words, embedding.words)
        pipe(sequencer.weights, engine.weights)
        self._parameters(m, sequencer.parameters, norm, mlgru)

        # The vector path: residual -> norm -> engine -> dequantiser -> units -> residual.
        pipe(residual.vector, norm.vector)
        pipe(norm.activations, engine.activations)
        pipe(norm.scales, dequantiser.scales)
        pipe(engine.rows, dequantiser.rows)
        self._values(m, dequantiser.values, mlgru, mixer, embedding, residual, head)

        # The head and the host.
        pipe(head.tokens, link.results)
        m.d.comb += [
            head.inv_temperature.eq(link.inv_temperature),
            head.seed.eq(link.seed),
            head.reseed.eq(link.reseed),
        ]
        pipe(self.rx, link.rx)
        pipe(link.tx, self.tx)
        self._counters(m, link, units)
        self._probes(m, units)
        return m

    def _parameters(self, m: Module, source: stream.Interface, norm: RMSNorm, mlgru: MLGRU) -> None:
        """Words of targets 0 and 1 go to the norm's gain memories, of target 2 to the lower bound."""
        word = source.payload
        m.d.comb += [
            norm.parameters.payload.word.eq(word.word),
            norm.parameters.payload.target.eq(word.target),
            norm.parameters.payload.slot.eq(word.slot),
            norm.parameters.payload.first.eq(word.first),
            mlgru.parameters.payload.word.eq(word.word),
            mlgru.parameters.payload.first.eq(word.first),
        ]
        with m.If(word.target == 2):
            m.d.comb += [mlgru.parameters.valid.eq(source.valid), source.ready.eq(mlgru.parameters.ready)]
        with m.Else():
            m.d.comb += [norm.parameters.valid.eq(source.valid), source.ready.eq(norm.parameters.ready)]

    def _values(
        self,
        m: Module,
        values: stream.Interface,
        mlgru: MLGRU,
        mixer: ChannelMixer,
        embedding: Embedding,
        residual: Residual,
        head: Head,
    ) -> None:
        """Dequantised values go where their command says; mlgru, mixer, embedding and the dequantiser feed the residual.

        At most one of those four has elements at a time, because each waits for the vector before it to be complete; so
        a fixed priority suffices.
        """
        value = values.payload
        targets = {0: mlgru.values, 1: mixer.values, 3: head.values}
        with m.Switch(value.destination):
            for number, target in targets.items():
                with m.Case(number):
                    m.d.comb += [target.valid.eq(values.valid), values.ready.eq(target.ready)]
        m.d.comb += [target.payload.eq(value.value) for target in targets.values()]
        m.submodules.entry = entry = Skid(signed(18))  # else `ready` is one path from the residual through every unit
        wiring.connect(m, entry.sink, residual.elements)
        with m.If(embedding.elements.valid):
            m.d.comb += [
                entry.source.valid.eq(1),
                entry.source.payload.eq(embedding.elements.payload),
                embedding.elements.ready.eq(entry.source.ready),
            ]
        with m.Elif(mlgru.elements.valid):
            m.d.comb += [
                entry.source.valid.eq(1),
                entry.source.payload.eq(mlgru.elements.payload),
                mlgru.elements.ready.eq(entry.source.ready),
            ]
        with m.Elif(mixer.elements.valid):
            m.d.comb += [
                entry.source.valid.eq(1),
                entry.source.payload.eq(mixer.elements.payload),
                mixer.elements.ready.eq(entry.source.ready),
            ]
        with m.Elif(value.destination == 2):
            m.d.comb += [
                entry.source.valid.eq(values.valid),
                entry.source.payload.eq(value.value),
                values.ready.eq(entry.source.ready),
            ]

    def _counters(self, m: Module, link: HostLink, units: dict[str, wiring.Component]) -> None:
        """Counters in the order of `COUNTERS`."""
        engine, sequencer = units["engine"], units["sequencer"]
        while_running = {
            "running": 1,
            "streaming": engine.streaming,
            "stall_memory": engine.wait_weights,
            "stall_fill": engine.wait_tables,
            "stall_dependency": engine.wait_activations,
            "stall_output": engine.wait_output,
        }
        events = {"tokens": units["head"].tokens.valid & units["head"].tokens.ready}
        for name in ("rows", "dequantiser", "mlgru", "mixer", "residual"):
            events[f"saturated_{name}"] = units["engine" if name == "rows" else name].saturated
        registers = {
            "crc_errors": sequencer.crc_errors,
            "first_bad_section": sequencer.first_bad_section,
            "fault_code": sequencer.fault_code,
        }
        values = []
        for name in COUNTERS:
            if name in registers:
                values.append(Cat(registers[name], Const(0, 32 - len(registers[name]))))
                continue
            event = Signal(name=f"count_{name}")  # registered: counting one cycle late costs no path
            counter = Signal(32, name=name)
            m.d.sync += event.eq(while_running[name] & link.running if name in while_running else events[name])
            with m.If(event):
                m.d.sync += counter.eq(counter + 1)
            values.append(counter)
        m.d.comb += link.counters.eq(Cat(values))

    def _probes(self, m: Module, units: dict[str, wiring.Component]) -> None:
        """Taps on transfers between units."""
        taps = {
            "activation": (units["norm"].activations, units["norm"].activations.payload.value),
            "row": (units["engine"].rows, units["engine"].rows.payload),
            "value": (units["dequantiser"].values, units["dequantiser"].values.payload.value),
        }
        for name, (port, payload) in taps.items():
            m.d.comb += [
                getattr(self.probe, f"{name}_valid").eq(port.valid & port.ready),
                getattr(self.probe, name).eq(payload),
            ]
        head, residual = units["head"], units["residual"]
        m.d.comb += [
            self.probe.logit_valid.eq(head.logit_valid),
            self.probe.logit.eq(head.logit),
            self.probe.vector_valid.eq(residual.written_valid),
            self.probe.vector.eq(residual.written),
        ]
