"""Submodules, registers and wires that the methods of `SerialVector` share."""

from __future__ import annotations

from amaranth.hdl import Module, Mux, Signal, Value

from tritape.hw.config import Config
from tritape.hw.norm.scalar import Scalar, Scale
from tritape.hw.vector.alu import ALU
from tritape.hw.vector.program import OPERATIONS, START, Operation
from tritape.hw.vector.serial_gain_memory import SerialGainMemory
from tritape.hw.vector.sigma_table import SigmaTable
from tritape.hw.vector.value_memory import ValueMemory


class Parts:
    """What one elaboration of `SerialVector` is made of; each of its methods reads and drives some of it."""

    def __init__(self, config: Config) -> None:
        self.alu = ALU()
        self.scalar = Scalar(small=True)
        self.values = ValueMemory(config)
        self.gains = SerialGainMemory(config)
        self.sigma = SigmaTable()

        # What runs: the program, its operation, the element, and whether it and the two before it are real
        self.program = {name: Signal(name=f"runs_{name}") for name in START}
        self.operation = Signal(Operation)
        self.step = Signal(range(len(OPERATIONS)))
        self.after = Signal.like(self.step)  # the step of the next cycle: its operation is looked up a cycle ahead
        self.start = Signal.like(self.step)
        self.index = Signal(range(config.max_length + 3))
        self.left = Signal(range(max(config.max_rows, config.max_length) + 1))
        self.live = Signal(3)
        self.running = Signal()
        self.moves = Signal()  # the operation is done in this cycle
        self.hold = Signal()  # the host has not taken a logit, or does not know of it yet

        # What the block of rows or the word on its way in says
        self.base = Signal(range(max(2, config.state_elements)))
        self.fresh = Signal()
        self.scale = Signal(Scale)
        self.output_shift = Signal(6)
        self.place = Signal(range(config.groups))  # of the next element in a word

        # What results are for: `Use` of the operation that the ALU has had for 0, 1, ... cycles
        self.uses = [Signal(3, name=f"use_{stage}") for stage in range(ALU.LATENCY + 1)]
        self.flying = Signal()  # a result is on its way
        self.square_sum = Signal(48)
        self.maximum = Signal(17)
        self.rank = Signal(range(config.max_vocab))  # of the next logit
        self.none = Signal()  # no logit has come yet

        # Between blocks and PREPs
        self.waiting, self.have_scale = Signal(Scale), Signal()
        self.ends = Signal()  # the block of rows is the last of its projection
        self.open = Signal()  # the last one has not come
        self.complete = Signal()  # a vector is whole

    def begin(self, m: Module, name: str, count: Value, first: bool | Value = True) -> None:
        """Start a program for `count` elements, at element 0 if `first`."""
        m.d.comb += self.after.eq(START[name])
        m.d.sync += [
            *(flag.eq(other == name) for other, flag in self.program.items()),
            self.start.eq(START[name]),
            self.left.eq(count),
            self.index.eq(Mux(first, 0, self.index)),
            self.live.eq(1),
        ]
