"""RMSNorm and int8 quantiser of one lane: a vector goes in twice, statistics and then activations come out."""

from __future__ import annotations

from amaranth.hdl import Module, Signal, signed
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from tritape.hw.commands import Activation, NormCommand
from tritape.hw.norm.gain_memory import GainMemory
from tritape.hw.norm.gains import ApplyGains, GainOperands
from tritape.hw.norm.quantiser import Quantiser
from tritape.hw.norm.scalar import Reciprocal, Scalar, ScalarOperands
from tritape.hw.norm.statistics import Statistics
from tritape.hw.stream.skid import Skid


class RMSNorm(wiring.Component):
    """RMSNorm and quantiser of one projection per command, docs/contract.md "RMSNorm and quantiser".

    The vector comes twice: first for M and A (`Statistics`), then to be quantised (`Quantiser`). Between the two the shared
    `VectorScalar` works out the reciprocal from the statistics of all lanes; meanwhile the second pass has come as far as
    the quantiser's input.

    Ports
        `parameters` (In stream): `word` 8 G bits of `groups // 2` gains; `target` 0 g1, 1 g12 (others are dropped);
        `bank`; `first` 1 for a vector's first word. Always ready: a bank must not be written from a command that
        reads it until that command's `done`.
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
    Raises `TritapeError` for sizes that cannot be (see `GainMemory`).
    """

    STATISTICS_LATENCY = (
        ApplyGains.LATENCY + Statistics.LATENCY + Scalar.RECIPROCAL_LATENCY + Quantiser.LATENCY + 1 + 2 * Skid.LATENCY
    )

    def __init__(self, groups: int, max_length: int) -> None:
        self._first_gains = GainMemory(groups, max_length, banks=2)
        self._product_gains = GainMemory(groups, max_length, banks=2)
        parameters = data.StructLayout({"word": 8 * groups, "target": 2, "bank": 1, "first": 1})
        super().__init__(
            {
                "commands": In(stream.Signature(NormCommand)),
                "parameters": In(stream.Signature(parameters)),
                "vector": In(stream.Signature(signed(18))),
                "activations": Out(stream.Signature(Activation)),
                "operands": Out(stream.Signature(ScalarOperands)),
                "reciprocal": In(stream.Signature(Reciprocal)),
                "done": Out(1),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        m.submodules.first_gains = first_gains = self._first_gains
        m.submodules.product_gains = product_gains = self._product_gains
        m.submodules.gains = gains = ApplyGains()
        m.submodules.statistics = statistics = Statistics()
        m.submodules.quantiser = quantiser = Quantiser()
        m.submodules.entry = entry = Skid(GainOperands)
        m.submodules.skid = skid = Skid(Activation)

        m.d.comb += self.parameters.ready.eq(1)
        for target, gain_memory in enumerate((first_gains, product_gains)):
            m.d.comb += [
                gain_memory.words.valid.eq(self.parameters.valid & (self.parameters.payload.target == target)),
                gain_memory.words.payload.word.eq(self.parameters.payload.word),
                gain_memory.words.payload.bank.eq(self.parameters.payload.bank),
                gain_memory.words.payload.first.eq(self.parameters.payload.first),
            ]

        # One command at a time: its vectors of gains are read while the elements come
        command = Signal(NormCommand)
        reads_first = Signal()
        reads_product = Signal(2)
        left = Signal(15)
        measured = Signal()  # the scalar unit has this command's operands
        take = Signal()
        for gain_memory in (first_gains, product_gains):
            m.d.comb += [
                gain_memory.reads.payload.bank.eq(command.bank),
                gain_memory.reads.payload.length.eq(command.length),
            ]
        m.d.comb += [first_gains.reads.valid.eq(reads_first), product_gains.reads.valid.eq(reads_product != 0)]
        with m.If(first_gains.reads.ready):
            m.d.sync += reads_first.eq(0)
        with m.If(product_gains.reads.valid & product_gains.reads.ready):
            m.d.sync += reads_product.eq(reads_product - 1)

        operands = entry.source.payload
        needs_first = Signal()
        offered = Signal()
        m.d.comb += [
            offered.eq(self.vector.valid & product_gains.elements.valid & (first_gains.elements.valid | ~needs_first)),
            operands.value.eq(self.vector.payload),
            operands.first_gain.eq(first_gains.elements.payload),
            operands.product_gain.eq(product_gains.elements.payload),
            operands.last.eq(left == 0),
            operands.keep.eq(command.keep),
            take.eq(entry.source.valid & entry.source.ready),
            self.vector.ready.eq(take),
            product_gains.elements.ready.eq(take),
            first_gains.elements.ready.eq(take & needs_first),
        ]
        with m.If(take):
            m.d.sync += left.eq(left - 1)
        with m.FSM():
            with m.State("IDLE"):
                m.d.comb += self.commands.ready.eq(1)
                m.d.sync += [command.eq(self.commands.payload), left.eq(self.commands.payload.length - 1)]
                m.d.sync += measured.eq(0)
                with m.If(self.commands.valid):
                    m.d.sync += [reads_first.eq(~self.commands.payload.keep), reads_product.eq(2)]
                    m.next = "MEASURE"
            with m.State("MEASURE"):
                m.d.comb += [entry.source.valid.eq(offered), needs_first.eq(~command.keep)]
                with m.If(take & operands.last):
                    m.d.sync += left.eq(command.length - 1)
                    m.next = "QUANTISE"
            with m.State("QUANTISE"):
                m.d.comb += [entry.source.valid.eq(offered), operands.quantise.eq(1)]
                with m.If(take & operands.last):
                    m.next = "WAIT"
            with m.State("WAIT"), m.If(measured):  # a short vector is through before its statistics are
                m.next = "IDLE"

        # Behind the multipliers: the first pass is measured, the second quantised
        wiring.connect(m, entry.sink, gains.operands)
        element = gains.elements.payload
        with m.If(element.quantise):
            m.d.comb += [
                quantiser.elements.valid.eq(gains.elements.valid),
                gains.elements.ready.eq(quantiser.elements.ready),
            ]
        with m.Else():
            m.d.comb += [
                statistics.elements.valid.eq(gains.elements.valid),
                gains.elements.ready.eq(statistics.elements.ready),
            ]
        for unit in (statistics.elements.payload, quantiser.elements.payload):
            m.d.comb += [unit[name].eq(element[name]) for name in unit.shape().members]

        m.d.comb += [
            self.operands.valid.eq(statistics.result.valid),
            statistics.result.ready.eq(self.operands.ready),
            self.operands.payload.maximum.eq(statistics.result.payload.maximum),
            self.operands.payload.square_sum.eq(statistics.result.payload.square_sum),
            self.operands.payload.eps.eq(command.eps),
            self.operands.payload.mantissa.eq(command.mantissa),
            self.operands.payload.exponent.eq(command.exponent),
        ]
        with m.If(statistics.result.valid & statistics.result.ready):
            m.d.sync += measured.eq(1)
        wiring.connect(m, wiring.flipped(self.reciprocal), quantiser.reciprocal)
        wiring.connect(m, quantiser.activations, skid.source)
        wiring.connect(m, skid.sink, wiring.flipped(self.activations))
        left_quantiser = quantiser.activations.valid & quantiser.activations.ready
        m.d.sync += self.done.eq(left_quantiser & quantiser.activations.payload.last)
        return m
