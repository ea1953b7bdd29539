"""The vector path as pipelines: a unit for each step, an element of every lane a cycle, commands queued."""

from __future__ import annotations

from amaranth.hdl import Cat, Module
from amaranth.lib import stream, wiring

from tritape.hw.assertion import check
from tritape.hw.config import Config
from tritape.hw.head.head import Head
from tritape.hw.head.row_serialiser import RowSerialiser
from tritape.hw.norm.vector_scalar import VectorScalar
from tritape.hw.stream.forward import forward
from tritape.hw.stream.logit_tap import LogitTap
from tritape.hw.stream.queue import CommandQueue
from tritape.hw.vector.lane import Lane
from tritape.hw.vector.ports import SATURATED, SLOT_INPUTS, VectorSignature


class PipelinedVector(wiring.Component):
    """Turns the engine's rows into the next activations and, at the end, into a token: the fast vector path, a unit for
    each step. An `Accelerator` has one; `SerialVector` takes its place where cells are few.

    It has E lanes of vector units, the scalar unit that joins their statistics, and the head. Commands wait in queues, so
    that the tape runs ahead. All lanes move in step: the first speaks for all.

    Ports: `VectorSignature`. Rates, latencies and costs: those of the units.
    Tested: whole tokens (tests/test_hw_accelerator.py, tests/test_sim_generate.py).
    """

    def __init__(self, config: Config) -> None:
        self.config = config
        super().__init__(VectorSignature(config))

    def elaborate(self, platform: object) -> Module:
        m, config = Module(), self.config
        lanes = [Lane(config) for _ in range(config.engines)]
        for index, lane in enumerate(lanes):
            m.submodules[f"lane_{index}"] = lane
        m.submodules.scalar = scalar = VectorScalar(config.engines)
        m.submodules.head = head = Head(config.max_vocab)
        m.submodules.logit_tap = tap = LogitTap()
        for name in ("residual", "norm", "dequantiser", "mlgru", "mixer"):
            source = getattr(self, f"{name}_commands")
            m.submodules[f"{name}_queue"] = queue = CommandQueue(source.payload.shape())
            wiring.connect(m, wiring.flipped(source), queue.sender)
            self._broadcast(m, queue.receiver, [getattr(lane, f"{name}_commands") for lane in lanes])
        self._broadcast(m, self.embedding_commands, [lane.embedding_commands for lane in lanes])
        self._words(m, lanes)

        for index, lane in enumerate(lanes):
            wiring.connect(m, lane.operands, scalar.operands[index])
            wiring.connect(m, scalar.reciprocal[index], lane.reciprocal)
            wiring.connect(m, lane.activations, wiring.flipped(self.activations[index]))
            m.d.comb += [lane.rows.payload.eq(self.rows.payload[index]), lane.rows.valid.eq(self.rows.valid)]
            if config.batch > 1:
                forward(m, self, lane, SLOT_INPUTS)
                wiring.connect(m, wiring.flipped(self.before[index]), lane.before)
                wiring.connect(m, lane.after, wiring.flipped(self.after[index]))
        m.d.comb += self.rows.ready.eq(lanes[0].rows.ready)
        self._broadcast(m, scalar.scales, [lane.scales for lane in lanes])
        forward(m, self, head, ("tokens", "inv_temperature", "seed", "reseed", "logit_valid", "logit"))
        for lane in lanes[1:]:
            for name in ("activations", "logits"):
                same = getattr(lane, name).valid == getattr(lanes[0], name).valid
                check(m, platform, same, "all lanes must move in step")
            check(m, platform, lane.rows.ready == lanes[0].rows.ready, "all lanes must move in step")
        self._head(m, lanes, tap, head)
        self._state(m, lanes)
        m.d.comb += [
            tap.enable.eq(self.logits_enable),
            self.norm_done.eq(lanes[0].norm_done),
            self.value_valid.eq(lanes[0].value_valid),
            self.value.eq(Cat(lane.value for lane in lanes)),
            self.vector_valid.eq(lanes[0].vector_valid),
            self.vector.eq(Cat(lane.vector for lane in lanes)),
            *(
                getattr(self, f"saturated_{name}").eq(sum(getattr(lane, f"saturated_{name}") for lane in lanes))
                for name in SATURATED
            ),
        ]
        return m

    @staticmethod
    def _broadcast(m: Module, source: stream.Interface, targets: list[stream.Interface]) -> None:
        """Every target takes what the first takes. This is for lanes that move in step and costs nothing; receivers that are
        not in step need `tritape.hw.stream.broadcast.Broadcast`."""
        for target in targets:
            m.d.comb += [target.payload.eq(source.payload), target.valid.eq(source.valid)]
        m.d.comb += source.ready.eq(targets[0].ready)

    def _words(self, m: Module, lanes: list[Lane]) -> None:
        """Parameters and embedding words: lane e takes bytes e G and following of a word."""
        bits = 8 * self.config.groups
        parameters, words = self.parameters, self.embedding_words
        for index, lane in enumerate(lanes):
            own = slice(index * bits, (index + 1) * bits)
            m.d.comb += [
                lane.parameters.payload.word.eq(parameters.payload.word[own]),
                *(lane.parameters.payload[name].eq(parameters.payload[name]) for name in ("target", "bank", "first")),
                lane.parameters.valid.eq(parameters.valid),
                lane.embedding_words.payload.eq(words.payload[own]),
                lane.embedding_words.valid.eq(words.valid),
            ]
        m.d.comb += [
            parameters.ready.eq(lanes[0].parameters.ready),
            words.ready.eq(lanes[0].embedding_words.ready),
        ]

    def _head(self, m: Module, lanes: list[Lane], tap: LogitTap, head: Head) -> None:
        """Logits of all lanes, in order, through the tap to the head."""
        shape = self.head_commands.payload.shape()
        m.submodules.head_queue = queue = CommandQueue(shape)
        wiring.connect(m, wiring.flipped(self.head_commands), queue.sender)
        wiring.connect(m, tap.sink, head.values)
        wiring.connect(m, tap.logits, wiring.flipped(self.logits))
        if len(lanes) == 1:
            wiring.connect(m, queue.receiver, head.commands)
            wiring.connect(m, lanes[0].logits, tap.source)
            return
        config, command = self.config, queue.receiver
        m.submodules.serialiser = serialiser = RowSerialiser(len(lanes), config.lane(config.max_rows))
        wiring.connect(m, serialiser.rows, tap.source)
        m.d.comb += [
            serialiser.commands.payload.eq(command.payload),
            head.commands.payload.eq(command.payload),
            serialiser.commands.valid.eq(command.valid & head.commands.ready),
            head.commands.valid.eq(command.valid & serialiser.commands.ready),
            command.ready.eq(serialiser.commands.ready & head.commands.ready),
            Cat(serialiser.slices.payload).eq(Cat(lane.logits.payload for lane in lanes)),
            serialiser.slices.valid.eq(lanes[0].logits.valid),
            *(lane.logits.ready.eq(serialiser.slices.ready) for lane in lanes),
        ]

    def _state(self, m: Module, lanes: list[Lane]) -> None:
        """The recurrent state for the host: the lane in the low bits of the address."""
        bits = (len(lanes) - 1).bit_length()
        for index, lane in enumerate(lanes):
            mine = self.state_address[:bits] == index if bits else 1
            forward(m, self, lane, ("state_access", "state_data"))
            m.d.comb += [
                lane.state_address.eq(self.state_address >> bits),
                lane.state_write.eq(self.state_write & mine),
            ]
            with m.If(mine):
                m.d.comb += self.state_value.eq(lane.state_value)
