"""One lane of vector units: everything between row sums and activations."""

from __future__ import annotations

from typing import Any

from amaranth.hdl import Cat, Module, signed
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out

from tritape.hw import commands
from tritape.hw.assertion import check
from tritape.hw.commands import Activation, Destination
from tritape.hw.config import Config
from tritape.hw.mixer.channel_mixer import ChannelMixer
from tritape.hw.mixer.mlgru import MLGRU
from tritape.hw.mixer.residual import Residual
from tritape.hw.norm.dequantiser import Dequantiser
from tritape.hw.norm.rmsnorm import RMSNorm
from tritape.hw.norm.scalar import Reciprocal, ScalarOperands, Scale
from tritape.hw.stream.forward import forward
from tritape.hw.stream.skid import Skid
from tritape.hw.tape.embedding import Embedding
from tritape.hw.vector.ports import SATURATED, SLOT_INPUTS, STATE_PORTS, chain_ports, state_ports
from tritape.model.tape.layout import Target


class Lane(wiring.Component):
    """One of the E slices of `PipelinedVector`: all units from the engine's rows back to its activations, for the elements j
    with j mod E = e of every vector: dequantiser, MLGRU, channel mixer, residual, RMSNorm and quantiser, embedding.

    All lanes take the same commands in the same cycle, with lengths that count a lane's elements, and move in step. Only
    the statistics of a vector (`VectorScalar`) and the logits (`RowSerialiser`) join them.

    Ports
        `NAME_commands` for residual, norm, dequantiser, mlgru, mixer, embedding (In streams, `tritape.hw.commands`).
        `parameters` (In stream, `parameter_word`): this lane's G bytes of a word; `target` is that of a LOAD (`Target`).
        `embedding_words` (In stream): this lane's G bytes of a word of an embedding row.
        `rows` (In stream): signed 18, from the engine. `scales` (In stream, `Scale`).
        `operands` (Out stream), `reciprocal` (In stream): to and from `VectorScalar`.
        `activations` (Out stream, `Activation`): to the engine. `logits` (Out stream): signed 18.
        `norm_done` (Out, 1): pulse, a norm command is finished.
        `state_access`, `state_address`, `state_write`, `state_data`, `state_value`: this lane's recurrent state for the host,
        as in `MLGRU`.
        `saturated_NAME` (Out, 1): a pulse for each element that the unit clamped.
        `value_valid`, `value`, `vector_valid`, `vector` (Out): taps on dequantised values and on elements written.
        `active`, `fresh`, `chain`, `give`, `before`, `after`: only with several slots, as in `MLGRU`.

    Latency and cost: those of the units. Tested: whole tokens with E = 1, 2, 4 (tests/test_hw_accelerator.py,
    tests/test_sim_generate.py). Source: docs/architecture.md.
    """

    def __init__(self, config: Config) -> None:
        self.config = config
        streams = {
            "residual": commands.ResidualCommand,
            "norm": commands.NormCommand,
            "dequantiser": commands.DequantiserCommand,
            "mlgru": commands.MLGRUCommand,
            "mixer": commands.MixerCommand,
            "embedding": commands.EmbeddingCommand,
        }
        super().__init__(
            {
                **{f"{name}_commands": In(stream.Signature(shape)) for name, shape in streams.items()},
                "parameters": In(stream.Signature(commands.parameter_word(config.groups))),
                "embedding_words": In(stream.Signature(8 * config.groups)),
                "rows": In(stream.Signature(signed(18))),
                "scales": In(stream.Signature(Scale)),
                "operands": Out(stream.Signature(ScalarOperands)),
                "reciprocal": In(stream.Signature(Reciprocal)),
                "activations": Out(stream.Signature(Activation)),
                "logits": Out(stream.Signature(signed(18))),
                "norm_done": Out(1),
                **state_ports(),
                **{f"saturated_{name}": Out(1) for name in SATURATED},
                "value_valid": Out(1),
                "value": Out(signed(18)),
                "vector_valid": Out(1),
                "vector": Out(signed(18)),
                **(chain_ports() if config.batch > 1 else {}),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        config = self.config
        hidden = config.lane(config.max_hidden)
        m.submodules.norm = norm = RMSNorm(config.groups, config.lane(config.max_length))
        m.submodules.residual = residual = Residual(hidden, config.lane(config.max_length))
        m.submodules.dequantiser = dequantiser = Dequantiser()
        m.submodules.mlgru = mlgru = MLGRU(config.groups, hidden, config.max_layers, chained=config.batch > 1)
        m.submodules.mixer = mixer = ChannelMixer()
        m.submodules.embedding = embedding = Embedding(config.groups)
        units: dict[str, Any] = {
            "residual": residual, "norm": norm, "dequantiser": dequantiser, "mlgru": mlgru, "mixer": mixer,
            "embedding": embedding,
        }  # fmt: skip
        for name, unit in units.items():
            wiring.connect(m, wiring.flipped(getattr(self, f"{name}_commands")), unit.commands)
        for name in SATURATED:
            m.d.comb += getattr(self, f"saturated_{name}").eq(units[name].saturated)

        # residual -> norm -> engine -> dequantiser -> units -> residual
        wiring.connect(m, residual.vector, norm.vector)
        forward(m, self, norm, ("activations", "operands", "reciprocal"))
        forward(m, self, dequantiser, ("scales", "rows"))
        wiring.connect(m, wiring.flipped(self.embedding_words), embedding.words)
        forward(m, self, mlgru, STATE_PORTS)
        if config.batch > 1:
            forward(m, self, mlgru, (*SLOT_INPUTS, "before", "after"))
        self._parameters(m, norm, mlgru)
        feeders = [embedding.elements.valid, mlgru.elements.valid, mixer.elements.valid]
        several = Cat(feeders[0] & feeders[1], feeders[0] & feeders[2], feeders[1] & feeders[2]).any()
        check(m, platform, ~several, "at most one of embedding, mlgru and mixer must have elements at a time")
        self._values(m, dequantiser.values, mlgru, mixer, embedding, residual)
        m.d.comb += [
            self.norm_done.eq(norm.done),
            self.value_valid.eq(dequantiser.values.valid & dequantiser.values.ready),
            self.value.eq(dequantiser.values.payload.value),
            self.vector_valid.eq(residual.written_valid),
            self.vector.eq(residual.written),
        ]
        return m

    def _parameters(self, m: Module, norm: RMSNorm, mlgru: MLGRU) -> None:
        """Words of norm gains go to the norm's gain memories, those of the lower bound to the MLGRU."""
        source, word = self.parameters, self.parameters.payload
        m.d.comb += [
            norm.parameters.payload.eq(word),
            mlgru.parameters.payload.word.eq(word.word),
            mlgru.parameters.payload.first.eq(word.first),
        ]
        with m.If(word.target == Target.LOWER_BOUND):
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
    ) -> None:
        """Dequantised values go where their command says; mlgru, mixer, embedding and the dequantiser feed the residual.

        At most one of those four has elements at a time, because each waits for the vector before it to be complete; so
        a fixed priority suffices (`elaborate` checks it).
        """
        destination = values.payload.destination
        m.submodules.entry = entry = Skid(signed(18))  # else `ready` is one path from the residual through every unit
        wiring.connect(m, entry.sink, residual.elements)
        targets = {Destination.MLGRU: mlgru.values, Destination.MIXER: mixer.values, Destination.HEAD: self.logits}
        for target in targets.values():
            m.d.comb += target.payload.eq(values.payload.value)
        with m.Switch(destination):
            for number, target in targets.items():
                with m.Case(number):
                    m.d.comb += [target.valid.eq(values.valid), values.ready.eq(target.ready)]

        with m.If(embedding.elements.valid):
            wiring.connect(m, embedding.elements, entry.source)
        with m.Elif(mlgru.elements.valid):
            wiring.connect(m, mlgru.elements, entry.source)
        with m.Elif(mixer.elements.valid):
            wiring.connect(m, mixer.elements, entry.source)
        with m.Elif(destination == Destination.RESIDUAL):
            m.d.comb += [
                entry.source.valid.eq(values.valid),
                entry.source.payload.eq(values.payload.value),
                values.ready.eq(entry.source.ready),
            ]
