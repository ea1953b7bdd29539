"""Everything behind the engine in one serial unit: norm, MLGRU, mixer, residual, embedding and head share one multiplier."""

from __future__ import annotations

from itertools import pairwise

from amaranth.hdl import Cat, Const, Module, Mux, Signal, signed
from amaranth.lib import wiring
from amaranth.lib.memory import Memory

from tritape.hw.assertion import check
from tritape.hw.commands import Destination, MLGRUMode, ResidualMode
from tritape.hw.config import Config
from tritape.hw.norm.scalar import Scalar
from tritape.hw.vector.ports import VectorSignature
from tritape.hw.vector.program import OPERATIONS, A, Addend, B, Held, Operation, Shift, Use
from tritape.hw.vector.serial_parts import Parts
from tritape.model.arith import SIGMA_ONE

_MLGRU = {MLGRUMode.CANDIDATE: "candidate", MLGRUMode.FORGET: "forget", MLGRUMode.OUTPUT: "output"}
_DESTINATIONS = {Destination.MIXER: "mixer", Destination.RESIDUAL: "residual", Destination.HEAD: "logits"}
_COMPLETE = ("output", "mixer", "residual", "embed")  # programs that make a vector for a PREP


class SerialVector(wiring.Component):
    """Does for one accelerator, with one multiplier, what `PipelinedVector` does with a pipeline for each step: RMSNorm,
    quantiser, dequantiser, MLGRU, mixer, residual, embedding and greedy head of docs/contract.md. It is chosen by
    `Config(serial=True)` for small devices.

    It works on one element after the other: a program (`tritape.hw.vector.program`) of a few cycles an element around one
    `ALU`. It takes the sequencer's commands as the pipelined units do and gives the same numbers. It relies on the tape's
    order (docs/tape.md): `STORE` and `ACCUMULATE` of a PREP say only that it must wait until the vector is complete.

    Ports: `VectorSignature`. The host must not have access to the states while a program runs. The commands of a PREP and of
    an embedding are held until they are done. Those of a block of rows are taken when its first row is there. Parameters are
    taken between programs. There is no sampler: inv_temperature, seed and reseed do nothing. Saturations are not counted.

    A PREP starts only when the engine has room for its activations, so the unit never waits in the middle of one and
    rows always have a way out: no deadlock however the tape orders its blocks.
    Cycles an element: `program.cycles(name)`; for a PREP both passes and `PREPARE_CYCLES` (see there).
    Cost (`tritape area --by-unit --family ice40`): three 16 x 16 multipliers, about 1,850 LUT4 and 590 flip-flops; block RAM of
    `ValueMemory`, `SerialGainMemory`, `SigmaTable` and the program (two of an iCE40). Tested against the golden model
    (tests/test_hw_vector.py): G = 4, 5, 8, 16, lengths from 1, odd lengths, several blocks.
    """

    PREPARE_CYCLES = 6 + Scalar.RECIPROCAL_LATENCY
    """Cycles of a PREP besides its elements': dispatch, drain, reciprocal (and up to 7 for a small maximum), finish."""

    def __init__(self, config: Config) -> None:
        self.config = config
        super().__init__(VectorSignature(config))

    def elaborate(self, platform: object) -> Module:
        m, parts = Module(), Parts(self.config)
        for name in ("alu", "scalar", "values", "gains", "sigma"):
            m.submodules[name] = getattr(parts, name)
        with m.If(self.state_access):
            check(m, platform, ~parts.running, "the host must not have access to the states while a program runs")
        self._fetch(m, parts)
        self._memories(m, parts)
        self._first_operand(m, parts)
        self._second_operand(m, parts)
        self._results(m, parts)
        self._statistics(m, parts)
        self._logits(m, parts)
        self._scales(m, parts)
        self._control(m, parts)
        self._taps(m, parts)
        return m

    def _fetch(self, m: Module, parts: Parts) -> None:
        """The operation of the step; whether it can be done now."""
        operation = parts.operation
        m.submodules.operations = operations = Memory(shape=Operation, depth=len(OPERATIONS), init=OPERATIONS)
        looked_up = operations.read_port()
        m.d.sync += parts.step.eq(parts.after)
        m.d.comb += [looked_up.addr.eq(parts.after), operation.eq(looked_up.data)]
        m.d.comb += [
            parts.after.eq(parts.step),
            parts.moves.eq(parts.running & (~operation.row | self.rows.valid) & ~parts.hold),
            self.rows.ready.eq(parts.running & operation.row & ~parts.hold),
        ]

    def _memories(self, m: Module, parts: Parts) -> None:
        """What the operation reads and where its result will go; the host's access to the states."""
        operation, moves, values, gains = parts.operation, parts.moves, parts.values, parts.gains
        norm = self.norm_commands.payload
        m.d.comb += [
            values.region.eq(operation.region),
            values.prepared.eq(self.residual_commands.payload.region),
            values.base.eq(parts.base),
            values.index.eq(parts.index),
            values.read.eq(moves & operation.read),
            values.target.eq(moves & (operation.use == Use.WRITE)),
            values.write.eq(parts.uses[-1] == Use.WRITE),
            values.result.eq(parts.alu.result),
            values.embedding.eq(self.embedding_words.payload.word_select(parts.place, 8)),
            values.access.eq(self.state_access),
            values.access_address.eq(self.state_address),
            values.access_write.eq(self.state_write),
            values.access_data.eq(self.state_data),
            self.state_value.eq(values.value),
            gains.vector.eq(operation.gain),
            gains.bank.eq(norm.bank),
            gains.index.eq(parts.index),
            gains.read.eq(moves & operation.read_gain),
            gains.place.eq(parts.place),
            gains.word.eq(self.parameters.payload),
        ]

    def _first_operand(self, m: Module, parts: Parts) -> None:
        """`a` of the ALU; the register `HELD` among its sources, which adds up to 2^15 - lb (16 bits) or to h - c (19)."""
        operation, alu, moves, memory = parts.operation, parts.alu, parts.moves, parts.values.value
        held, change = Signal(signed(19)), Signal(signed(19))
        with m.Switch(operation.held):
            with m.Case(Held.LESS_GAIN):
                m.d.comb += change.eq(~Cat(parts.gains.value, Const(0, 3)))
            with m.Case(Held.LESS_MEMORY):
                m.d.comb += change.eq(~memory)
            with m.Case(Held.PLUS_STATE):
                m.d.comb += change.eq(memory)
        less = operation.held != Held.PLUS_STATE
        with m.If(moves & ((operation.held == Held.ZERO) | (operation.held == Held.ONE))):
            m.d.sync += held.eq(Mux(operation.held == Held.ONE, SIGMA_ONE, 0))
        with m.Elif(moves & (operation.held != Held.KEEP) & ~(parts.fresh & ~less)):
            m.d.sync += held.eq(held + change + less)
        sources = {A.ROW: self.rows.payload[0], A.MEMORY: memory, A.RESULT: alu.result, A.MAGNITUDE: alu.magnitude}
        with m.Switch(operation.a):
            for choice, source in sources.items():
                with m.Case(choice):
                    m.d.comb += alu.a.eq(source)
            with m.Default():
                m.d.comb += alu.a.eq(held)

    def _second_operand(self, m: Module, parts: Parts) -> None:
        """`b` of the ALU, and how far it shifts the product."""
        operation, alu, scalar = parts.operation, parts.alu, parts.scalar
        m.d.comb += parts.sigma.value.eq(alu.result)
        factor = Signal(17)
        m.d.comb += factor.eq(parts.scale.mantissa)
        with m.If(parts.program["quantise"]):
            m.d.comb += factor.eq(scalar.reciprocal.payload.r)
        with m.If(parts.program["embed"]):
            m.d.comb += factor.eq(self.embedding_commands.payload.multiplier)
        sources = {
            B.ONE: 1,
            B.FACTOR: factor,
            B.SIGMA: parts.sigma.sigma,
            B.RESULT: alu.result,
            B.GAIN: parts.gains.value.as_signed(),
        }
        with m.Switch(operation.b):
            for choice, source in sources.items():
                with m.Case(choice):
                    m.d.comb += alu.b.eq(source)
        amounts = {
            Shift.SCALE: parts.scale.shift,
            Shift.OUTPUT: parts.output_shift,
            Shift.FRACTION: 15,
            Shift.QUANTISE: 9 + scalar.reciprocal.payload.e,
            Shift.EMBEDDING: 8,
        }
        with m.Switch(operation.shift):
            for shift, amount in amounts.items():
                with m.Case(shift):
                    m.d.comb += alu.shift.eq(amount)

    def _results(self, m: Module, parts: Parts) -> None:
        """What each result is for goes along with its operands; activations go to the engine."""
        operation, alu, uses, live = parts.operation, parts.alu, parts.uses, parts.live
        real = Signal()
        with m.Switch(operation.age):
            for age in range(3):
                with m.Case(age) if age < 2 else m.Default():
                    m.d.comb += real.eq(live[age])
        addends = [Signal(2, name=f"addend_{stage}") for stage in range(alu.ADDEND_DELAY + 1)]
        marks = [Signal(2, name=f"marks_{stage}") for stage in range(alu.LATENCY + 1)]  # negative, last
        m.d.comb += [
            uses[0].eq(Mux(parts.moves & real, operation.use, Use.NONE)),
            addends[0].eq(operation.addend),
            marks[0].eq(Cat(alu.result[-1], ~live[1])),
            alu.valid.eq(uses[0] != Use.NONE),
            parts.flying.eq(Cat(*uses[1:]).any()),
        ]
        for chain in (uses, addends, marks):
            m.d.sync += [after.eq(before) for before, after in pairwise(chain)]
        with m.Switch(addends[-1]):
            with m.Case(Addend.MEMORY):
                m.d.comb += alu.addend.eq(parts.values.value)
            with m.Case(Addend.GAIN):
                m.d.comb += alu.addend.eq(parts.gains.value)
        activations, (negative, last) = self.activations[0], marks[-1]
        m.d.comb += [
            activations.valid.eq(uses[-1] == Use.ACTIVATION),
            activations.payload.value.eq((alu.result[:8] ^ negative.replicate(8)) + negative),
            activations.payload.last.eq(last),
        ]

    def _statistics(self, m: Module, parts: Parts) -> None:
        """A and M of a PREP, for the scalar unit."""
        alu, uses, norm, operands = parts.alu, parts.uses, self.norm_commands.payload, parts.scalar.operands.payload
        with m.If(uses[1] == Use.SQUARE):
            m.d.sync += parts.square_sum.eq(parts.square_sum + alu.product[:36])
        with m.If((uses[-1] == Use.MAXIMUM) & (alu.magnitude > parts.maximum)):
            m.d.sync += parts.maximum.eq(alu.magnitude)
        m.d.comb += [
            operands.maximum.eq(parts.maximum),
            operands.square_sum.eq(parts.square_sum),
            operands.eps.eq(norm.eps),
            operands.mantissa.eq(norm.mantissa),
            operands.exponent.eq(norm.exponent),
        ]

    def _logits(self, m: Module, parts: Parts) -> None:
        """The greedy head, and logits for the host, each of which it must take before the next is worked out."""
        result, uses, program = parts.alu.result, parts.uses, parts.program
        best, winner = Signal(signed(18)), Signal.like(parts.rank)
        with m.If(uses[-1] == Use.LOGIT):
            m.d.sync += [parts.rank.eq(parts.rank + 1), parts.none.eq(0)]
            with m.If(parts.none | (result > best)):
                m.d.sync += [best.eq(result), winner.eq(parts.rank)]
        m.d.comb += [
            self.tokens.payload.eq(winner),
            self.logits.payload.eq(result),
            parts.hold.eq(self.logits_enable & program["logits"] & (self.logits.valid | parts.flying)),
        ]
        with m.If(self.logits.ready | ~self.logits_enable):
            m.d.sync += self.logits.valid.eq(0)
        with m.If(self.logits_enable & (uses[-2] == Use.LOGIT)):
            m.d.sync += self.logits.valid.eq(1)

    def _scales(self, m: Module, parts: Parts) -> None:
        """One scale waits here, one may wait in the scalar unit: two vectors can be ahead of their projection."""
        scale = parts.scalar.scale
        m.d.comb += scale.ready.eq(~parts.have_scale)
        with m.If(~parts.have_scale):
            m.d.sync += [parts.waiting.eq(scale.payload), parts.have_scale.eq(scale.valid)]

    def _control(self, m: Module, parts: Parts) -> None:
        """Takes words of parameters, blocks of rows, PREPs and embeddings, one at a time, and runs their programs."""
        rows, norm, vector, table = (
            self.dequantiser_commands, self.norm_commands, self.residual_commands, self.embedding_commands,
        )  # fmt: skip
        scalar = parts.scalar
        prepare = norm.valid & vector.valid & scalar.operands.ready & self.activations[0].ready
        prepare &= ((vector.payload.mode == ResidualMode.READ) | parts.complete) & ~parts.open
        with m.FSM():
            with m.State("IDLE"):
                m.d.sync += parts.place.eq(0)
                # `ready` only if a word is there: `place` stays 0 without one
                m.d.comb += self.parameters.ready.eq(parts.place == self.config.groups // 2 - 1)
                with m.If(self.parameters.valid):
                    m.d.comb += parts.gains.load.eq(1)
                    with m.If(~self.parameters.ready):
                        m.d.sync += parts.place.eq(parts.place + 1)
                with m.Elif(parts.flying):
                    pass
                with m.Elif(rows.valid & self.rows.valid & (~rows.payload.take | parts.have_scale)):
                    self._begin_block(m, parts)
                    m.next = "RUN"
                with m.Elif(prepare):
                    self._begin_measure(m, parts)
                    m.next = "RUN"
                with m.Elif(table.valid & self.embedding_words.valid):
                    parts.begin(m, "embed", table.payload.length)
                    m.next = "EMBED"
            with m.State("EMBED"):
                self._embed(m, parts)
            with m.State("RUN"):
                self._run(m, parts)
            with m.State("SCALAR"):
                m.d.comb += scalar.operands.valid.eq(1)
                m.next = "RECIPROCAL"
            with m.State("RECIPROCAL"), m.If(scalar.reciprocal.valid):
                parts.begin(m, "quantise", norm.payload.length)
                m.next = "RUN"
            with m.State("FINISH"):  # the second command of the PREP takes another cycle
                m.d.comb += [scalar.reciprocal.ready.eq(1), vector.ready.eq(1)]
                with m.If(~scalar.reciprocal.valid):
                    m.d.comb += [norm.ready.eq(1), self.norm_done.eq(1)]
                    m.next = "IDLE"
            with m.State("TOKEN"):
                m.d.comb += self.tokens.valid.eq(~parts.flying & ~self.logits.valid)
                with m.If(self.tokens.valid & self.tokens.ready):
                    m.next = "IDLE"

    def _begin_block(self, m: Module, parts: Parts) -> None:
        """Start the program of a block of rows; its first block takes the commands of all units."""
        rows, given, first = self.dequantiser_commands, self.mlgru_commands.payload, ~parts.open
        mode = Signal(2)
        m.d.comb += rows.ready.eq(1)
        m.d.sync += [parts.ends.eq(rows.payload.last), parts.open.eq(~rows.payload.last)]
        with m.If(rows.payload.take):
            m.d.sync += [parts.scale.eq(parts.waiting), parts.have_scale.eq(0)]
        with m.Switch(rows.payload.destination):
            for destination, name in _DESTINATIONS.items():
                with m.Case(destination):
                    count = rows.payload.rows
                    parts.begin(m, name, count >> 1 if name == "mixer" else count, first)
            with m.Default(), m.Switch(Mux(first, given.mode, mode)):
                for number, name in _MLGRU.items():
                    with m.Case(number):
                        parts.begin(m, name, rows.payload.rows, first)
        with m.If(first):
            for port in (self.mlgru_commands, self.mixer_commands, self.head_commands):
                m.d.comb += port.ready.eq(1)
            m.d.sync += [parts.none.eq(1), parts.rank.eq(0), parts.base.eq(given.base), parts.fresh.eq(given.fresh)]
            m.d.sync += [mode.eq(given.mode), parts.output_shift.eq(given.shift)]
            with m.If(rows.payload.destination == Destination.MIXER):
                m.d.sync += parts.output_shift.eq(self.mixer_commands.payload.shift)

    def _begin_measure(self, m: Module, parts: Parts) -> None:
        """Start the first pass of a PREP."""
        norm = self.norm_commands.payload
        m.d.sync += parts.maximum.eq(0)
        parts.begin(m, "measure", norm.length)
        with m.If(norm.keep):
            parts.begin(m, "measure_keep", norm.length)
        with m.Else():
            m.d.sync += parts.square_sum.eq(0)
        with m.If(self.residual_commands.payload.mode != ResidualMode.READ):
            m.d.sync += parts.complete.eq(0)

    def _embed(self, m: Module, parts: Parts) -> None:
        """State EMBED: the bytes of an embedding row go to x as they are, and then its program runs."""
        words, place = self.embedding_words, parts.place
        final = parts.left == 1
        m.d.comb += words.ready.eq(final | (place == self.config.groups - 1))
        with m.If(words.valid):
            m.d.comb += parts.values.embeds.eq(1)
            m.d.sync += [parts.index.eq(parts.index + 1), parts.left.eq(parts.left - 1), place.eq(place + 1)]
            with m.If(words.ready):
                m.d.sync += place.eq(0)
            with m.If(final):
                m.d.sync += [parts.index.eq(0), parts.left.eq(self.embedding_commands.payload.length)]
                m.next = "RUN"

    def _run(self, m: Module, parts: Parts) -> None:
        """State RUN: step by step, element by element; where to go on after the last one."""
        operation, program, live = parts.operation, parts.program, parts.live
        m.d.comb += parts.running.eq(1)
        with m.If(parts.moves):
            m.d.comb += parts.after.eq(parts.step + 1)
        with m.If(parts.moves & operation.last):
            more = live[0] & (parts.left != 1)
            m.d.comb += parts.after.eq(parts.start)
            m.d.sync += [
                parts.index.eq(parts.index + 1),
                parts.left.eq(parts.left - 1),
                live.eq(Cat(more, live[:2])),
            ]
            with m.If(~more & ~(operation.drain & live[:2].any())):
                m.next = "IDLE"
                with m.If(program["measure"] | program["measure_keep"]):
                    m.next = "SCALAR"
                with m.If(program["quantise"]):
                    m.next = "FINISH"
                with m.If(program["embed"]):
                    m.d.comb += self.embedding_commands.ready.eq(1)
                with m.If(program["logits"] & parts.ends):
                    m.next = "TOKEN"
                with m.If(Cat(program[name] for name in _COMPLETE).any() & (parts.ends | program["embed"])):
                    m.d.sync += parts.complete.eq(1)

    def _taps(self, m: Module, parts: Parts) -> None:
        """What the pipelined units would show: dequantised values, elements of x and v, logits."""
        operation, uses, result = parts.operation, parts.uses, parts.alu.result
        scaled = [Signal(name=f"scaled_{stage}") for stage in range(len(uses))]
        m.d.comb += scaled[0].eq(parts.moves & (operation.shift == Shift.SCALE))
        m.d.sync += [after.eq(before) for before, after in pairwise(scaled)]
        raw = parts.moves & operation.row & (operation.shift == Shift.OUTPUT)
        wrote = Cat(parts.program[name] for name in _COMPLETE).any()
        m.d.comb += [
            self.value_valid.eq(scaled[-1] | raw),
            self.value.eq(Mux(raw, self.rows.payload[0], result)),
            self.vector_valid.eq((uses[-1] == Use.WRITE) & wrote),
            self.vector.eq(result),
            self.logit_valid.eq(uses[-1] == Use.LOGIT),
            self.logit.eq(result),
        ]
