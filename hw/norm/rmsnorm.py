"""RMSNorm and int8 quantiser of one lane: a vector goes in twice, statistics and then activations come out."""

from __future__ import annotations

from amaranth.hdl import Module, Signal, signed
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out

from tritape.hw.assertion import check
from tritape.hw.commands import Activation, NormCommand, parameter_word
from tritape.hw.norm.gain_memory import GainMemory
from tritape.hw.norm.gains import ApplyGains, GainOperands
from tritape.hw.norm.quantiser import Quantiser
from tritape.hw.norm.scalar import Reciprocal, Scalar, ScalarOperands
from tritape.hw.norm.statistics import Statistics
from tritape.hw.stream.skid import Skid
from tritape.model.tape.layout import Target


class _Parts:
    """What one elaboration of `RMSNorm` is made of; each of its methods reads and drives some of it."""

    def __init__(self) -> None:
        self.entry = Skid(GainOperands)
        self.gains = ApplyGains()
        self.statistics = Statistics()
        self.quantiser = Quantiser()
        self.skid = Skid(Activation)
        self.command = Signal(NormCommand)  # one at a time
        self.reads_first, self.reads_product = Signal(), Signal(2)  # reads of gains that it still asks for
        self.needs_first = Signal()  # this pass needs g1
        self.offered, self.take = Signal(), Signal()  # an element and its gains are there; they are taken


class RMSNorm(wiring.Component):
    """Makes the int8 activations of a projection from a vector of a lane: RMSNorm and quantiser, one projection a command. A
    `Lane` has one between its residual and the engine.

    The vector comes twice: first for M and A (`Statistics`), then to be quantised (`Quantiser`). Between the two the shared
    `VectorScalar` works out the reciprocal from the statistics of all lanes; meanwhile the second pass has come as far as
    the quantiser's input.

    Ports
        `parameters` (In stream, `parameter_word`): `word` 8 G bits of `groups // 2` gains; `target` `GAIN_FIRST` g1 or
        `GAIN_PRODUCT` g12 (others are dropped); `bank`; `first` 1 for a vector's first word. Always ready: a bank must not
        be written from a command that reads it until that command's second pass has been taken (`done` comes later).
        `commands` (In stream, `NormCommand`): `length` K 1..max_length, `bank` of the gains, `keep` 1 to use A of the
        command before instead of g1, `eps`, `mantissa` Cm, `exponent` Ce signed. The next command is taken when the
        second pass has been taken.
        `vector` (In stream): signed 18, K elements for the statistics, then the same K again.
        `activations` (Out stream, `Activation`): `value` signed 8, `last`.
        `operands` (Out stream, `ScalarOperands`): M and A of this lane's elements, and the command's constants.
        `reciprocal` (In stream, `Reciprocal`): of M of all lanes.
        `done` (Out, 1): high for one cycle when the last activation of a command leaves the quantiser.

    Rate: one element a cycle in both passes.
    Latency: `STATISTICS_LATENCY` cycles from the last element of the first pass to the first activation with one lane and
    M >= 65536, and n // 4 + n % 4 more for n = 17 - bit length of M (`STATISTICS_LATENCY - 17` for M = 0).
    Cost: four multipliers; block RAM for four vectors of `max_length` gains.
    Tested: K from 1 to 130, groups 4, 5 and 16, against `arith.statistics`, `quantise` and `scale`.
    Raises `TritapeError` for sizes that cannot be (see `GainMemory`). Source: docs/contract.md "RMSNorm and quantiser".
    """

    STATISTICS_LATENCY = (
        ApplyGains.LATENCY + Statistics.LATENCY + Scalar.RECIPROCAL_LATENCY + Quantiser.LATENCY + 1 + 2 * Skid.LATENCY
    )

    def __init__(self, groups: int, max_length: int) -> None:
        self._first_gains = GainMemory(groups, max_length, banks=2)
        self._product_gains = GainMemory(groups, max_length, banks=2)
        super().__init__(
            {
                "commands": In(stream.Signature(NormCommand)),
                "parameters": In(stream.Signature(parameter_word(groups))),
                "vector": In(stream.Signature(signed(18))),
                "activations": Out(stream.Signature(Activation)),
                "operands": Out(stream.Signature(ScalarOperands)),
                "reciprocal": In(stream.Signature(Reciprocal)),
                "done": Out(1),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        parts = _Parts()
        entry, quantiser, skid = parts.entry, parts.quantiser, parts.skid
        m.submodules.first_gains = self._first_gains
        m.submodules.product_gains = self._product_gains
        for name in ("entry", "gains", "statistics", "quantiser", "skid"):
            m.submodules[name] = getattr(parts, name)
        self._words(m)
        self._reads(m, parts)
        self._elements(m, parts)
        self._control(m, platform, parts)
        wiring.connect(m, entry.sink, parts.gains.operands)
        self._passes(m, parts)
        self._statistics(m, parts)
        wiring.connect(m, wiring.flipped(self.reciprocal), quantiser.reciprocal)
        wiring.connect(m, quantiser.activations, skid.source)
        wiring.connect(m, skid.sink, wiring.flipped(self.activations))
        left_quantiser = quantiser.activations.valid & quantiser.activations.ready
        m.d.sync += self.done.eq(left_quantiser & quantiser.activations.payload.last)
        return m

    def _words(self, m: Module) -> None:
        """Each word of gains to the memory of its target."""
        word = self.parameters.payload
        m.d.comb += self.parameters.ready.eq(1)
        for target, memory in ((Target.GAIN_FIRST, self._first_gains), (Target.GAIN_PRODUCT, self._product_gains)):
            m.d.comb += memory.words.valid.eq(self.parameters.valid & (word.target == target))
            m.d.comb += [memory.words.payload[name].eq(word[name]) for name in ("word", "bank", "first")]

    def _reads(self, m: Module, parts: _Parts) -> None:
        """A command's vectors of gains are read while the elements come: g1 in the first pass, g12 in both."""
        first, product = self._first_gains.reads, self._product_gains.reads
        command, reads_first, reads_product = parts.command, parts.reads_first, parts.reads_product
        for reads in (first, product):
            m.d.comb += [reads.payload.bank.eq(command.bank), reads.payload.length.eq(command.length)]
        m.d.comb += [first.valid.eq(reads_first), product.valid.eq(reads_product != 0)]
        with m.If(first.ready):
            m.d.sync += reads_first.eq(0)
        with m.If(product.valid & product.ready):
            m.d.sync += reads_product.eq(reads_product - 1)

    def _elements(self, m: Module, parts: _Parts) -> None:
        """An element of the vector and its gains go to the multipliers together."""
        first, product, entry, take = (
            self._first_gains.elements,
            self._product_gains.elements,
            parts.entry.source,
            parts.take,
        )
        operands = entry.payload
        m.d.comb += [
            parts.offered.eq(self.vector.valid & product.valid & (first.valid | ~parts.needs_first)),
            operands.value.eq(self.vector.payload),
            operands.first_gain.eq(first.payload),
            operands.product_gain.eq(product.payload),
            take.eq(entry.valid & entry.ready),
            self.vector.ready.eq(take),
            product.ready.eq(take),
            first.ready.eq(take & parts.needs_first),
        ]

    def _control(self, m: Module, platform: object, parts: _Parts) -> None:
        """Both passes of a command."""
        left, measured = Signal(15), Signal()  # elements after this one; the scalar unit has this command's operands
        command, entry, take, operands = parts.command, parts.entry.source, parts.take, parts.entry.source.payload
        m.d.comb += [operands.last.eq(left == 0), operands.keep.eq(command.keep)]
        with m.If(take):
            m.d.sync += left.eq(left - 1)
        with m.FSM() as fsm:
            with m.State("IDLE"):
                m.d.comb += self.commands.ready.eq(1)
                m.d.sync += [command.eq(self.commands.payload), left.eq(self.commands.payload.length - 1)]
                m.d.sync += measured.eq(0)
                with m.If(self.commands.valid):
                    m.d.sync += [parts.reads_first.eq(~self.commands.payload.keep), parts.reads_product.eq(2)]
                    m.next = "MEASURE"
            with m.State("MEASURE"):
                m.d.comb += [entry.valid.eq(parts.offered), parts.needs_first.eq(~command.keep)]
                with m.If(take & operands.last):
                    m.d.sync += left.eq(command.length - 1)
                    m.next = "QUANTISE"
            with m.State("QUANTISE"):
                m.d.comb += [entry.valid.eq(parts.offered), operands.quantise.eq(1)]
                with m.If(take & operands.last):
                    m.next = "WAIT"
            with m.State("WAIT"), m.If(measured):  # a short vector is through before its statistics are
                m.next = "IDLE"
        with m.If(parts.statistics.result.valid & parts.statistics.result.ready):
            m.d.sync += measured.eq(1)
        reading = fsm.ongoing("MEASURE") | fsm.ongoing("QUANTISE")
        with m.If(self.parameters.valid & (self.parameters.payload.target != Target.LOWER_BOUND) & reading):
            text = "a bank must not be written from a command that reads it until that command's second pass has been taken"
            check(m, platform, self.parameters.payload.bank != command.bank, text)

    @staticmethod
    def _passes(m: Module, parts: _Parts) -> None:
        """Behind the multipliers: the first pass is measured, the second quantised."""
        source, statistics, quantiser = parts.gains.elements, parts.statistics, parts.quantiser
        element = source.payload
        with m.If(element.quantise):
            m.d.comb += [quantiser.elements.valid.eq(source.valid), source.ready.eq(quantiser.elements.ready)]
        with m.Else():
            m.d.comb += [statistics.elements.valid.eq(source.valid), source.ready.eq(statistics.elements.ready)]
        for unit in (statistics.elements.payload, quantiser.elements.payload):
            m.d.comb += [unit[name].eq(element[name]) for name in unit.shape().members]

    def _statistics(self, m: Module, parts: _Parts) -> None:
        """The scalar unit's operands: M, A and the constants of the command."""
        result, operands = parts.statistics.result, self.operands.payload
        m.d.comb += [self.operands.valid.eq(result.valid), result.ready.eq(self.operands.ready)]
        m.d.comb += [operands[name].eq(result.payload[name]) for name in ("maximum", "square_sum")]
        m.d.comb += [operands[name].eq(parts.command[name]) for name in ("eps", "mantissa", "exponent")]
