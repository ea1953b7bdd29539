"""Everything behind the engine in one serial unit: norm, MLGRU, mixer, residual, embedding and head share one multiplier."""

from __future__ import annotations

from itertools import pairwise

from amaranth.hdl import Cat, Const, Module, Mux, Signal, Value, signed
from amaranth.lib import data, wiring
from amaranth.lib.memory import Memory

from tritape.hw.config import Config
from tritape.hw.norm.scalar import Scalar, Scale
from tritape.hw.vector.alu import ALU
from tritape.hw.vector.ports import VectorSignature
from tritape.hw.vector.program import OPERATIONS, START, A, Addend, B, Gain, Held, Operation, Region, Shift, Use
from tritape.model.arith import SIGMA, SIGMA_ONE

_MLGRU = ("candidate", "forget", "output")  # by mode
_DESTINATIONS = {1: "mixer", 2: "residual", 3: "logits"}
_COMPLETE = ("output", "mixer", "residual", "embed")  # programs that make a vector for a PREP


class SerialVector(wiring.Component):
    """RMSNorm, quantiser, dequantiser, MLGRU, mixer, residual, embedding and greedy head of docs/contract.md, one element
    after the other: a program (`tritape.hw.vector.program`) of a few cycles an element around one `ALU`.

    Takes the sequencer's commands as the pipelined units do, and gives the same numbers. It relies on the tape's order
    (docs/tape.md): `store` and `accumulate` of a PREP say only that it must wait until the vector is complete.

    Ports: `VectorSignature`. The commands of a PREP and of an embedding are held until they are done, those of a block of
    rows taken when its first row is there; parameters are taken between programs. There is no sampler: inv_temperature,
    seed and reseed do nothing; saturations are not counted.

    A PREP starts only when the engine has room for its activations, so the unit never waits in the middle of one and
    rows always have a way out: no deadlock however the tape orders its blocks.
    Cycles an element: `program.cycles(name)`; for a PREP both passes and `PREPARE_CYCLES` (see there).
    Cost (`tritape area --by-unit --family ice40`): three 16 x 16 multipliers, about 1,850 LUT4 and 590 flip-flops; block RAM of
    max_layers * max_hidden + max_hidden + max_intermediate values of 18 bits, 4 * max_length + max_hidden gains of 16 bits, and
    the sigma table. Tested against the golden model (tests/test_hw_vector.py): G = 4, 5, 8, 16, lengths from 1, odd lengths,
    several blocks.
    """

    PREPARE_CYCLES = 6 + Scalar.RECIPROCAL_LATENCY
    """Cycles of a PREP besides its elements': dispatch, drain, reciprocal (and up to 7 for a small maximum), finish."""

    def __init__(self, config: Config) -> None:
        self.config = config
        super().__init__(VectorSignature(config))

    def elaborate(self, platform: object) -> Module:
        m, config = Module(), self.config
        m.submodules.alu = alu = ALU()
        m.submodules.scalar = scalar = Scalar(small=True)
        operation = Signal(Operation)
        step = Signal(range(len(OPERATIONS)))
        with m.Switch(step):
            for number, fields in enumerate(OPERATIONS):
                with m.Case(number):
                    m.d.comb += operation.eq(Operation.const(fields))

        # What runs: the element, and whether it and the two before it are real.
        program = {name: Signal(name=f"runs_{name}") for name in START}
        start = Signal.like(step)
        index, left = Signal(range(config.max_length + 3)), Signal(range(max(config.max_rows, config.max_length) + 1))
        live = Signal(3)
        running, moves = Signal(), Signal()
        hold = Signal()  # the host has not taken a logit, or does not know of it yet
        m.d.comb += moves.eq(running & (~operation.row | self.rows.valid) & ~hold)
        m.d.comb += self.rows.ready.eq(running & operation.row & ~hold)

        def begin(name: str, count: Value, first: bool | Value = True) -> list:
            """Statements that start a program for `count` elements, at element 0 if `first`."""
            return [
                *(flag.eq(other == name) for other, flag in program.items()),
                step.eq(START[name]),
                start.eq(START[name]),
                left.eq(count),
                index.eq(Mux(first, 0, index)),
                live.eq(1),
            ]

        # Operands
        base, fresh = Signal(range(max(2, config.state_elements))), Signal()
        place = Signal(range(config.groups))  # of the next element in a word
        write, embeds, loads = Signal(), Signal(), Signal()
        memory = self._values(m, operation, base, index, place, moves, write, embeds, alu.result)
        gains = self._gains(m, operation, index, place, moves, loads)
        held = self._held(m, operation, memory, gains, moves, fresh)
        sigma = self._sigma(m, alu.result)
        scale, output_shift = Signal(Scale), Signal(6)
        negative = alu.result[-1]
        factor = Signal(17)
        m.d.comb += factor.eq(scale.mantissa)
        with m.If(program["quantise"]):
            m.d.comb += factor.eq(scalar.reciprocal.payload.r)
        with m.If(program["embed"]):
            m.d.comb += factor.eq(self.embedding_commands.payload.multiplier)
        with m.Switch(operation.a):
            for choice, source in (
                (A.ROW, self.rows.payload[0]),
                (A.MEMORY, memory),
                (A.RESULT, alu.result),
                (A.MAGNITUDE, alu.magnitude),
            ):
                with m.Case(choice):
                    m.d.comb += alu.a.eq(source)
            with m.Default():
                # 2^15 - lb is a number of 16 bits, h - c one of 19
                m.d.comb += alu.a.eq(held)
        with m.Switch(operation.b):
            for factor_choice, source in (
                (B.ONE, 1), (B.FACTOR, factor), (B.SIGMA, sigma), (B.RESULT, alu.result), (B.GAIN, gains.as_signed()),
            ):  # fmt: skip
                with m.Case(factor_choice):
                    m.d.comb += alu.b.eq(source)
        with m.Switch(operation.shift):
            for shift_choice, amount in (
                (Shift.SCALE, scale.shift), (Shift.OUTPUT, output_shift), (Shift.FRACTION, 15),
                (Shift.QUANTISE, 9 + scalar.reciprocal.payload.e), (Shift.EMBEDDING, 8),
            ):  # fmt: skip
                with m.Case(shift_choice):
                    m.d.comb += alu.shift.eq(amount)

        # Results: `use` goes along with the operands.
        real = Signal()
        with m.Switch(operation.age):
            for age in range(3):
                with m.Case(age) if age < 2 else m.Default():
                    m.d.comb += real.eq(live[age])
        uses = [Signal(3, name=f"use_{stage}") for stage in range(alu.LATENCY + 1)]
        addends = [Signal(2, name=f"addend_{stage}") for stage in range(alu.ADDEND_DELAY + 1)]
        marks = [Signal(2, name=f"marks_{stage}") for stage in range(alu.LATENCY + 1)]  # negative, last
        m.d.comb += [
            uses[0].eq(Mux(moves & real, operation.use, Use.NONE)),
            addends[0].eq(operation.addend),
            marks[0].eq(Cat(negative, ~live[1])),
            alu.valid.eq(uses[0] != Use.NONE),
        ]
        for chain in (uses, addends, marks):
            m.d.sync += [after.eq(before) for before, after in pairwise(chain)]
        with m.Switch(addends[-1]):
            with m.Case(Addend.MEMORY):
                m.d.comb += alu.addend.eq(memory)
            with m.Case(Addend.GAIN):
                m.d.comb += alu.addend.eq(gains)
        use = uses[-1]
        flying = Signal()
        m.d.comb += flying.eq(Cat(*uses[1:]).any())
        m.d.comb += [
            write.eq(use == Use.WRITE),
            self.activations[0].valid.eq(use == Use.ACTIVATION),
            self.activations[0].payload.value.eq((alu.result[:8] ^ marks[-1][0].replicate(8)) + marks[-1][0]),
            self.activations[0].payload.last.eq(marks[-1][1]),
        ]
        square_sum, maximum = Signal(48), Signal(17)
        with m.If(uses[1] == Use.SQUARE):
            m.d.sync += square_sum.eq(square_sum + alu.product[:36])
        with m.If((use == Use.MAXIMUM) & (alu.magnitude > maximum)):
            m.d.sync += maximum.eq(alu.magnitude)
        best, rank, none = Signal(signed(18)), Signal(range(config.max_vocab)), Signal()
        winner = Signal.like(rank)
        with m.If(use == Use.LOGIT):
            m.d.sync += [rank.eq(rank + 1), none.eq(0)]
            with m.If(none | (alu.result > best)):
                m.d.sync += [best.eq(alu.result), winner.eq(rank)]
        m.d.comb += [
            self.tokens.payload.eq(winner),
            self.logits.payload.eq(alu.result),
            hold.eq(self.logits_enable & program["logits"] & (self.logits.valid | flying)),
        ]
        with m.If(self.logits.ready | ~self.logits_enable):
            m.d.sync += self.logits.valid.eq(0)
        with m.If(self.logits_enable & (uses[-2] == Use.LOGIT)):
            m.d.sync += self.logits.valid.eq(1)

        # One scale waits here, one may wait in the scalar unit: two vectors can be ahead of their projection.
        waiting, have_scale = Signal(Scale), Signal()
        m.d.comb += scalar.scale.ready.eq(~have_scale)
        with m.If(~have_scale):
            m.d.sync += [waiting.eq(scalar.scale.payload), have_scale.eq(scalar.scale.valid)]

        # Commands: of a block of rows, of a PREP, of an embedding.
        rows, given, norm = self.dequantiser_commands, self.mlgru_commands.payload, self.norm_commands.payload
        vector, table = self.residual_commands, self.embedding_commands
        ends, open_, complete = (
            Signal(),
            Signal(),
            Signal(),
        )  # the block is the last; the last has not come; a vector is whole
        mode = Signal(2)
        m.d.comb += [
            scalar.operands.payload.maximum.eq(maximum),
            scalar.operands.payload.square_sum.eq(square_sum),
            scalar.operands.payload.eps.eq(norm.eps),
            scalar.operands.payload.mantissa.eq(norm.mantissa),
            scalar.operands.payload.exponent.eq(norm.exponent),
        ]
        prepare = self.norm_commands.valid & vector.valid & scalar.operands.ready & self.activations[0].ready
        prepare &= ((vector.payload.mode == 0) | complete) & ~open_
        per_word = config.groups // 2
        with m.FSM():
            with m.State("IDLE"):
                m.d.sync += place.eq(0)
                m.d.comb += self.parameters.ready.eq(place == per_word - 1)  # which it is only if a word is there
                with m.If(self.parameters.valid):
                    m.d.comb += loads.eq(1)
                    with m.If(~self.parameters.ready):
                        m.d.sync += place.eq(place + 1)
                with m.Elif(flying):
                    pass
                with m.Elif(rows.valid & self.rows.valid & (~rows.payload.take | have_scale)):
                    first = ~open_
                    m.d.comb += rows.ready.eq(1)
                    m.d.sync += [ends.eq(rows.payload.last), open_.eq(~rows.payload.last)]
                    with m.If(rows.payload.take):
                        m.d.sync += [scale.eq(waiting), have_scale.eq(0)]
                    with m.Switch(rows.payload.destination):
                        for destination, name in _DESTINATIONS.items():
                            with m.Case(destination):
                                count = rows.payload.rows
                                m.d.sync += begin(name, count >> 1 if name == "mixer" else count, first)
                        with m.Default(), m.Switch(Mux(first, given.mode, mode)):
                            for number, name in enumerate(_MLGRU):
                                with m.Case(number):
                                    m.d.sync += begin(name, rows.payload.rows, first)
                    with m.If(first):
                        m.d.comb += [
                            port.ready.eq(1) for port in (self.mlgru_commands, self.mixer_commands, self.head_commands)
                        ]
                        m.d.sync += [none.eq(1), rank.eq(0), base.eq(given.base), fresh.eq(given.fresh)]
                        m.d.sync += [mode.eq(given.mode), output_shift.eq(given.shift)]
                        with m.If(rows.payload.destination == 1):
                            m.d.sync += output_shift.eq(self.mixer_commands.payload.shift)
                    m.next = "RUN"
                with m.Elif(prepare):
                    m.d.sync += [maximum.eq(0), begin("measure", norm.length)]
                    with m.If(norm.keep):
                        m.d.sync += begin("measure_keep", norm.length)
                    with m.Else():
                        m.d.sync += square_sum.eq(0)
                    with m.If(vector.payload.mode != 0):
                        m.d.sync += complete.eq(0)
                    m.next = "RUN"
                with m.Elif(table.valid & self.embedding_words.valid):
                    m.d.sync += begin("embed", table.payload.length)
                    m.next = "EMBED"
            with m.State("EMBED"):  # the bytes go to x as they are
                final = left == 1
                m.d.comb += self.embedding_words.ready.eq(final | (place == config.groups - 1))
                with m.If(self.embedding_words.valid):
                    m.d.comb += embeds.eq(1)
                    m.d.sync += [index.eq(index + 1), left.eq(left - 1), place.eq(place + 1)]
                    with m.If(self.embedding_words.ready):
                        m.d.sync += place.eq(0)
                    with m.If(final):
                        m.d.sync += [index.eq(0), left.eq(table.payload.length)]
                        m.next = "RUN"
            with m.State("RUN"):
                m.d.comb += running.eq(1)
                with m.If(moves):
                    m.d.sync += step.eq(step + 1)
                with m.If(moves & operation.last):
                    more = live[0] & (left != 1)
                    m.d.sync += [
                        step.eq(start), index.eq(index + 1), left.eq(left - 1), live.eq(Cat(more, live[:2])),
                    ]  # fmt: skip
                    with m.If(~more & ~(operation.drain & live[:2].any())):
                        m.next = "IDLE"
                        with m.If(program["measure"] | program["measure_keep"]):
                            m.next = "SCALAR"
                        with m.If(program["quantise"]):
                            m.next = "FINISH"
                        with m.If(program["embed"]):
                            m.d.comb += table.ready.eq(1)
                        with m.If(program["logits"] & ends):
                            m.next = "TOKEN"
                        with m.If(Cat(program[name] for name in _COMPLETE).any() & (ends | program["embed"])):
                            m.d.sync += complete.eq(1)
            with m.State("SCALAR"):
                m.d.comb += scalar.operands.valid.eq(1)
                m.next = "RECIPROCAL"
            with m.State("RECIPROCAL"), m.If(scalar.reciprocal.valid):
                m.d.sync += begin("quantise", norm.length)
                m.next = "RUN"
            with m.State("FINISH"):  # the second command of the PREP takes another cycle
                m.d.comb += [scalar.reciprocal.ready.eq(1), vector.ready.eq(1)]
                with m.If(~scalar.reciprocal.valid):
                    m.d.comb += [self.norm_commands.ready.eq(1), self.norm_done.eq(1)]
                    m.next = "IDLE"
            with m.State("TOKEN"):
                m.d.comb += self.tokens.valid.eq(~flying & ~self.logits.valid)
                with m.If(self.tokens.valid & self.tokens.ready):
                    m.next = "IDLE"

        self._taps(m, alu.result, uses, operation, program, moves)
        return m

    def _values(
        self, m: Module, operation: data.View, base: Value, index: Value, place: Value, moves: Value, write: Value,
        embeds: Value, result: Value,
    ) -> Value:  # fmt: skip
        """The memory of states, x and v (c). `write` puts `result` where the last operation for `WRITE` was issued;
        `embeds` puts a byte of the embedding into x. Returns its output."""
        config = self.config
        x = config.state_elements
        v = x + config.max_hidden
        m.submodules.values = store = Memory(
            shape=signed(18), depth=v + config.max_intermediate, init=[], attrs={"no_rw_check": 1}
        )
        read_port, write_port = store.read_port(), store.write_port()
        start, address, target = Signal.like(read_port.addr), Signal.like(read_port.addr), Signal.like(read_port.addr)
        with m.Switch(operation.region):
            with m.Case(Region.X):
                m.d.comb += start.eq(x)
            with m.Case(Region.V):
                m.d.comb += start.eq(v)
            with m.Case(Region.STATE):
                m.d.comb += start.eq(base)
            with m.Case(Region.PREPARED):
                m.d.comb += start.eq(Mux(self.residual_commands.payload.region, v, x))
        with m.If(embeds):
            m.d.comb += start.eq(x)
        m.d.comb += [
            address.eq(start + index),
            read_port.addr.eq(address),
            read_port.en.eq((moves & operation.read) | self.state_access),
            write_port.addr.eq(target),
            write_port.data.eq(result),
            write_port.en.eq(write | embeds | self.state_access & self.state_write),
            self.state_value.eq(read_port.data),
        ]
        with m.If(embeds):
            byte = self.embedding_words.payload.word_select(place, 8)
            m.d.comb += [write_port.addr.eq(address), write_port.data.eq(byte.as_signed())]
        with m.If(self.state_access):
            m.d.comb += [
                address.eq(self.state_address),
                write_port.addr.eq(address),
                write_port.data.eq(self.state_data),
            ]
        with m.If(moves & (operation.use == Use.WRITE)):
            m.d.sync += target.eq(address)
        return read_port.data

    def _gains(
        self, m: Module, operation: data.View, index: Value, place: Value, moves: Value, loads: Value
    ) -> Value:  # fmt: skip
        """The memory of gains and lower bounds; `loads` writes element `place` of the word on `parameters`. Its output."""
        per_word = self.config.groups // 2
        bank = -(-self.config.max_length // per_word) * per_word
        starts = {Gain.FIRST: 0, Gain.PRODUCT: 2 * bank, Gain.BOUND: 4 * bank}
        bound = -(-self.config.max_hidden // per_word) * per_word
        m.submodules.gains = store = Memory(shape=16, depth=4 * bank + bound, init=[], attrs={"no_rw_check": 1})
        read_port, write_port = store.read_port(), store.write_port()
        word, norm = self.parameters.payload, self.norm_commands.payload
        following = Signal.like(write_port.addr)
        m.d.comb += [
            read_port.en.eq(moves & operation.read_gain),
            write_port.en.eq(loads),
            write_port.data.eq(word.word.word_select(place, 16)),
            write_port.addr.eq(following),
        ]
        for port, choice, number, offset in (
            (read_port, operation.gain, norm.bank, index), (write_port, word.target, word.bank, None),
        ):  # fmt: skip
            start = Signal.like(port.addr)
            with m.Switch(choice):
                for gain, at in starts.items():
                    with m.Case(gain) if gain != Gain.BOUND else m.Default():
                        m.d.comb += start.eq(at if gain == Gain.BOUND else Mux(number, at + bank, at))
            if offset is not None:
                m.d.comb += port.addr.eq(start + offset)
            else:
                with m.If(word.first & (place == 0)):
                    m.d.comb += port.addr.eq(start)
        with m.If(loads):
            m.d.sync += following.eq(write_port.addr + 1)
        return read_port.data

    @staticmethod
    def _held(m: Module, operation: data.View, memory: Value, gains: Value, moves: Value, fresh: Value) -> Value:
        """A register that adds up to 2^15 - lb or to h - c."""
        held, change = Signal(signed(19)), Signal(signed(19))
        with m.Switch(operation.held):
            with m.Case(Held.LESS_GAIN):
                m.d.comb += change.eq(~Cat(gains, Const(0, 3)))
            with m.Case(Held.LESS_MEMORY):
                m.d.comb += change.eq(~memory)
            with m.Case(Held.PLUS_STATE):
                m.d.comb += change.eq(memory)
        less = operation.held != Held.PLUS_STATE
        with m.If(moves & ((operation.held == Held.ZERO) | (operation.held == Held.ONE))):
            m.d.sync += held.eq(Mux(operation.held == Held.ONE, SIGMA_ONE, 0))
        with m.Elif(moves & (operation.held != Held.KEEP) & ~(fresh & ~less)):
            m.d.sync += held.eq(held + change + less)
        return held

    @staticmethod
    def _sigma(m: Module, value: Value) -> Value:
        """sigma of `value`, two cycles later, while it stays."""
        m.submodules.sigma = table = Memory(shape=16, depth=len(SIGMA), init=SIGMA.tolist())
        read = table.read_port()
        negative, sigma = value[-1], Signal(16)
        folded = (value ^ negative.replicate(18))[:17]  # |a|, one less for a < 0
        rounded = Signal(13)  # (|a| + 16) >> 5
        m.d.comb += [
            rounded.eq((folded + Cat(negative, Const(0, 3), Const(1, 1)))[5:]),
            read.addr.eq(rounded[:10] | rounded[10:].any().replicate(10)),
        ]
        m.d.sync += sigma.eq(Mux(negative, SIGMA_ONE - read.data, read.data))
        return sigma

    def _taps(
        self, m: Module, result: Value, uses: list[Signal], operation: data.View, program: dict[str, Signal], moves: Value
    ) -> None:  # fmt: skip
        """What the pipelined units would show: dequantised values, elements of x and v, logits."""
        scaled = [Signal(name=f"scaled_{stage}") for stage in range(len(uses))]
        m.d.comb += scaled[0].eq(moves & (operation.shift == Shift.SCALE))
        m.d.sync += [after.eq(before) for before, after in pairwise(scaled)]
        raw = moves & operation.row & (operation.shift == Shift.OUTPUT)
        wrote = Cat(program[name] for name in _COMPLETE).any()
        m.d.comb += [
            self.value_valid.eq(scaled[-1] | raw),
            self.value.eq(Mux(raw, self.rows.payload[0], result)),
            self.vector_valid.eq((uses[-1] == Use.WRITE) & wrote),
            self.vector.eq(result),
            self.logit_valid.eq(uses[-1] == Use.LOGIT),
            self.logit.eq(result),
        ]
