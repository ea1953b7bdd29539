"""What serves one token of a pass: an engine and the vector path behind it."""

from __future__ import annotations

from amaranth.hdl import Cat, Module
from amaranth.lib import fifo, stream, wiring
from amaranth.lib.wiring import In, Out

from tritape.hw import commands
from tritape.hw.config import Config
from tritape.hw.engine.choice import engine_of
from tritape.hw.engine.engine import Engine
from tritape.hw.mixer.mlgru import MLGRU
from tritape.hw.stream.forward import forward
from tritape.hw.stream.queue import CommandQueue
from tritape.hw.vector.pipelined import PipelinedVector
from tritape.hw.vector.ports import VectorSignature

ENGINE_TAPS = ("streaming", "wait_output", "wait_weights", "wait_tables", "wait_activations")
_INSIDE = ("activations", "rows")  # ports of the vector path that face the engine


class Slot(wiring.Component):
    """An engine, the pipelined vector path behind it, and queues for the engine's commands, its rows and an embedding row.

    Ports: those of `VectorSignature` with several slots, but for activations and rows, and
        engine_commands, weights: In streams, as of `Engine`.
        The engine's streaming and wait_NAME, and saturated_rows: how many rows saturated in this cycle.
        activation_valid, activation, row_valid, row: taps for simulation, E elements each.

    Rows leave the engine `ROW_CYCLES` later than without other slots. A slot knows nothing of the others but for the
    recurrence, where `before` and `after` chain them. Latency and cost: those of the parts, a memory of an embedding row
    and one of 8 T rows. Tested inside `BatchTokenLoop`.
    """

    ROW_CYCLES = 1

    def __init__(self, config: Config) -> None:
        self.config = config
        ports = {name: member for name, member in VectorSignature(config).members.items() if name not in _INSIDE}
        super().__init__(
            {
                **ports,
                "engine_commands": In(stream.Signature(commands.EngineCommand)),
                "weights": In(stream.Signature(8 * config.word_bytes)),
                **{name: Out(1) for name in ENGINE_TAPS},
                "saturated_rows": Out(range(config.engines + 1)),
                "activation_valid": Out(1),
                "activation": Out(8 * config.engines),
                "row_valid": Out(1),
                "row": Out(18 * config.engines),
            }
        )
        self._shared = [name for name in ports if name != "embedding_words"]

    def elaborate(self, _platform: object) -> Module:
        m, config = Module(), self.config
        m.submodules.engine = engine = engine_of(config)
        m.submodules.vector = vector = PipelinedVector(config)
        m.submodules.engine_queue = queue = CommandQueue(commands.EngineCommand)
        wiring.connect(m, wiring.flipped(self.engine_commands), queue.sender)
        wiring.connect(m, wiring.flipped(self.weights), engine.weights)
        wiring.connect(m, queue.receiver, engine.commands)
        for activations, target in zip(vector.activations, engine.activations):
            wiring.connect(m, activations, target)
        self._rows(m, engine, vector)

        # The row waits here while the embedding unit takes G cycles a word, so that the other slots' rows can come.
        width = 8 * config.word_bytes
        m.submodules.row_queue = row = fifo.SyncFIFOBuffered(
            width=width, depth=-(-config.max_hidden // config.word_bytes)
        )
        m.d.comb += [
            row.w_data.eq(self.embedding_words.payload),
            row.w_en.eq(self.embedding_words.valid),
            self.embedding_words.ready.eq(row.w_rdy),
            vector.embedding_words.payload.eq(row.r_data),
            vector.embedding_words.valid.eq(row.r_rdy),
            row.r_en.eq(vector.embedding_words.ready),
        ]
        forward(m, self, vector, self._shared)
        activations = vector.activations[0]
        m.d.comb += [
            *(getattr(self, name).eq(getattr(engine, name)) for name in ENGINE_TAPS),
            self.saturated_rows.eq(engine.saturated),
            self.activation_valid.eq(activations.valid & activations.ready),
            self.activation.eq(Cat(lane.payload.value for lane in vector.activations)),
            self.row_valid.eq(engine.rows.valid & engine.rows.ready),
            self.row.eq(Cat(engine.rows.payload)),
        ]
        return m

    def _rows(self, m: Module, engine: Engine, vector: PipelinedVector) -> None:
        """Rows wait here while the recurrence waits for the slot before, so that the engines go on: without this place, a slot
        that is some elements behind could not have as many more of them under way."""
        depth = MLGRU.RECURRENCE * self.config.batch
        m.submodules.waiting_rows = waiting = fifo.SyncFIFO(width=len(Cat(engine.rows.payload)), depth=depth)
        m.d.comb += [
            waiting.w_data.eq(Cat(engine.rows.payload)),
            waiting.w_en.eq(engine.rows.valid),
            engine.rows.ready.eq(waiting.w_rdy),
            Cat(vector.rows.payload).eq(waiting.r_data),
            vector.rows.valid.eq(waiting.r_rdy),
            waiting.r_en.eq(vector.rows.ready),
        ]
