"""One lane of vector units: everything between row sums and activations."""

from __future__ import annotations

from typing import Any

from amaranth.hdl import Module, signed
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out

from tritape.hw import commands
from tritape.hw.commands import Activation
from tritape.hw.config import Config
from tritape.hw.mixer.channel_mixer import ChannelMixer
from tritape.hw.mixer.mlgru import MLGRU
from tritape.hw.mixer.residual import Residual
from tritape.hw.norm.dequantiser import Dequantiser
from tritape.hw.norm.rmsnorm import RMSNorm
from tritape.hw.norm.scalar import Reciprocal, ScalarOperands, Scale
from tritape.hw.stream.skid import Skid
from tritape.hw.tape.embedding import Embedding
from tritape.hw.vector.ports import SATURATED, SLOT_INPUTS, chain_ports


class Lane(wiring.Component):
    """Elements j mod E = e of every vector: dequantiser, MLGRU, channel mixer, residual, RMSNorm and quantiser, embedding.

    All E lanes take the same commands in the same cycle, with lengths that count a lane's elements, and move in step. Only
    the statistics of a vector (`VectorScalar`) and the logits (`RowSerialiser`) join them.

    Ports
        `NAME_commands` for residual, norm, dequantiser, mlgru, mixer, embedding (In streams, `tritape.hw.commands`).
        `parameters` (In stream): this lane's G bytes of a word, `target` 0 g1, 1 g12, 2 lower bound.
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
                "state_access": In(1),
                "state_address": In(20),
                "state_write": In(1),
                "state_data": In(signed(18)),
                "state_value": Out(signed(18)),
                **{f"saturated_{name}": Out(1) for name in SATURATED},
                "value_valid": Out(1),
                "value": Out(signed(18)),
                "vector_valid": Out(1),
                "vector": Out(signed(18)),
                **(chain_ports() if config.batch > 1 else {}),
            }
        )

    def elaborate(self, _platform: object) -> Module:
        m = Module()
        config = self.config
        hidden = config.lane(config.max_hidden)
        m.submodules.norm = norm = RMSNorm(config.groups, config.lane(config.max_length))
        m.submodules.residual = residual = Residual(hidden, config.lane(config.max_intermediate))
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
        wiring.connect(m, norm.activations, wiring.flipped(self.activations))
        wiring.connect(m, norm.operands, wiring.flipped(self.operands))
        wiring.connect(m, wiring.flipped(self.reciprocal), norm.reciprocal)
        wiring.connect(m, wiring.flipped(self.scales), dequantiser.scales)
        wiring.connect(m, wiring.flipped(self.rows), dequantiser.rows)
        wiring.connect(m, wiring.flipped(self.embedding_words), embedding.words)
        if config.batch > 1:
            m.d.comb += [getattr(mlgru, name).eq(getattr(self, name)) for name in SLOT_INPUTS]
            wiring.connect(m, wiring.flipped(self.before), mlgru.before)
            wiring.connect(m, mlgru.after, wiring.flipped(self.after))
        self._parameters(m, norm, mlgru)
        self._values(m, dequantiser.values, mlgru, mixer, embedding, residual)
        m.d.comb += [
            self.norm_done.eq(norm.done),
            mlgru.state_access.eq(self.state_access),
            mlgru.state_address.eq(self.state_address),
            mlgru.state_write.eq(self.state_write),
            mlgru.state_data.eq(self.state_data),
            self.state_value.eq(mlgru.state_value),
            self.value_valid.eq(dequantiser.values.valid & dequantiser.values.ready),
            self.value.eq(dequantiser.values.payload.value),
            self.vector_valid.eq(residual.written_valid),
            self.vector.eq(residual.written),
        ]
        return m

    def _parameters(self, m: Module, norm: RMSNorm, mlgru: MLGRU) -> None:
        """Words of targets 0 and 1 go to the norm's gain memories, of target 2 to the lower bound."""
        source, word = self.parameters, self.parameters.payload
        m.d.comb += [
            norm.parameters.payload.word.eq(word.word),
            norm.parameters.payload.target.eq(word.target),
            norm.parameters.payload.bank.eq(word.bank),
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
    ) -> None:
        """Dequantised values go where their command says; mlgru, mixer, embedding and the dequantiser feed the residual.

        At most one of those four has elements at a time, because each waits for the vector before it to be complete; so
        a fixed priority suffices.
        """
        value = values.payload
        targets = {0: mlgru.values, 1: mixer.values, 3: self.logits}
        with m.Switch(value.destination):
            for number, target in targets.items():
                with m.Case(number):
                    m.d.comb += [target.valid.eq(values.valid), values.ready.eq(target.ready)]
        m.d.comb += [target.payload.eq(value.value) for target in targets.values()]
        m.submodules.entry = entry = Skid(signed(18))  # else `ready` is one path from the residual through every unit
        wiring.connect(m, entry.sink, residual.elements)

        def feed(elements: stream.Interface) -> None:
            m.d.comb += [
                entry.source.valid.eq(1),
                entry.source.payload.eq(elements.payload),
                elements.ready.eq(entry.source.ready),
            ]

        with m.If(embedding.elements.valid):
            feed(embedding.elements)
        with m.Elif(mlgru.elements.valid):
            feed(mlgru.elements)
        with m.Elif(mixer.elements.valid):
            feed(mixer.elements)
        with m.Elif(value.destination == 2):
            m.d.comb += [
                entry.source.valid.eq(values.valid),
                entry.source.payload.eq(value.value),
                values.ready.eq(entry.source.ready),
            ]
