"""Statistics of all lanes to one reciprocal and one scale."""

from __future__ import annotations

from collections.abc import Callable

from amaranth.hdl import Cat, Module, Mux, Signal, Value
from amaranth.lib import stream, wiring
from amaranth.lib.fifo import SyncFIFO
from amaranth.lib.wiring import In, Out

from tritape.hw.assertion import check
from tritape.hw.norm.scalar import Reciprocal, Scalar, ScalarOperands, Scale

_SCALES = 4  # scales that wait for the dequantisers


class VectorScalar(wiring.Component):
    """Joins what the lanes measured of their parts of a vector, for `PipelinedVector`: M is the largest of their maxima, A the
    sum of their sums of squares, and `Scalar` does the rest.

    Ports
        `operands` (E In streams, `ScalarOperands`): statistics of the lanes. They must come in the same cycle. The constants
        of the first lane are used.
        `reciprocal` (E Out streams, `Reciprocal`): the same for every lane; taken in the same cycle.
        `scales` (Out stream, `Scale`), behind a queue of four.

    Latency: `levels` = ceil(log2 E) cycles more than `Scalar`. A's sum stays below 2^48 as one lane's does.
    Cost: `Scalar`, 17 + 48 LUT4 and registers for each lane after the first. Tested: E = 1, 2, 3, 5.
    """

    def __init__(self, engines: int) -> None:
        self._engines = engines
        self.levels = self.level_count(engines)
        super().__init__(
            {
                "operands": In(stream.Signature(ScalarOperands)).array(engines),
                "reciprocal": Out(stream.Signature(Reciprocal)).array(engines),
                "scales": Out(stream.Signature(Scale)),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        m.submodules.scalar = scalar = Scalar()
        m.submodules.queue = queue = SyncFIFO(width=Scale.size, depth=_SCALES)
        first = self.operands[0]
        together = [lane.valid == first.valid for lane in self.operands]
        check(m, platform, Cat(together).all(), "statistics of the lanes must come in the same cycle")

        # Operands hold still until they are taken, which is when they have passed the levels below.
        maxima: list[Value] = [lane.payload.maximum for lane in self.operands]
        sums: list[Value] = [lane.payload.square_sum for lane in self.operands]
        arrived: Value = first.valid
        for level in range(self.levels):
            maxima = self._level(m, f"maximum_{level}", 17, maxima, lambda a, b: Mux(a > b, a, b))
            sums = self._level(m, f"sum_{level}", 48, sums, lambda a, b: a + b)
            later = Signal(name=f"arrived_{level}")
            m.d.sync += later.eq(arrived & ~first.ready)
            arrived = later
        operands = scalar.operands.payload
        m.d.comb += [
            scalar.operands.valid.eq(arrived),
            operands.eq(first.payload),
            operands.maximum.eq(maxima[0]),
            operands.square_sum.eq(sums[0]),
            *(lane.ready.eq(scalar.operands.ready & arrived) for lane in self.operands),
            *(lane.payload.eq(scalar.reciprocal.payload) for lane in self.reciprocal),
            *(lane.valid.eq(scalar.reciprocal.valid) for lane in self.reciprocal),
            scalar.reciprocal.ready.eq(self.reciprocal[0].ready),
        ]
        wiring.connect(m, scalar.scale, queue.w_stream)
        wiring.connect(m, queue.r_stream, wiring.flipped(self.scales))
        return m

    @staticmethod
    def level_count(engines: int) -> int:
        """Levels of the trees that join the lanes, so cycles more than `Scalar`."""
        return (engines - 1).bit_length()

    @staticmethod
    def _level(
        m: Module, name: str, width: int, values: list[Value], join: Callable[[Value, Value], Value]
    ) -> list[Value]:
        """One registered level of a tree."""
        joined = [join(a, b) for a, b in zip(values[::2], values[1::2])] + values[len(values) // 2 * 2 :]
        registers: list[Value] = [Signal(width, name=f"{name}_{index}") for index in range(len(joined))]
        m.d.sync += [register.eq(value) for register, value in zip(registers, joined)]
        return registers
