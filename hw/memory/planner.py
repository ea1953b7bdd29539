"""Requests in words of G bytes become lines to fetch and runs to cut out of them."""

from __future__ import annotations

from amaranth.hdl import Cat, Module, Mux, Signal
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from tritape.base.errors import TritapeError
from tritape.hw.memory.gearbox import grain, run_layout
from tritape.hw.memory.signature import Request, ends_behind
from tritape.hw.memory.times import times

Fetch = data.StructLayout({"line": 32, "count": 32})
"""Consecutive lines to read, at least 1; both count lines of the memory."""


class Planner(wiring.Component):
    """Tells the readers of a striped memory which lines hold the words that were asked for, and the `Gearbox` where they lie.

    For words [address, address + length), the same lines of every port:

        line = floor(address G / W), count = ceil((address G mod W + length G) / W), skip = (address G mod W) / unit

    Ports
        requests: In stream, {address u32, length u32} in words of G bytes; length 0 gives nothing.
        fetches: `ports` Out streams, {line u32, count u32} in lines of W bytes, the same to each.
        runs: Out stream, {skip u16, words u32}.
        refused: Out u1, high for one cycle for a request that ends behind word `words`: it is forgotten.

    Streams: outputs are registers. A request is taken when all outputs of the one before are.
    Latency: `LATENCY` = 2 cycles. Cost: two constant multiplications in adders, about 200 flip-flops.
    Tested: W = 2..64, G = 4..64. Errors: those of `grain`; `TritapeError` for ports below 1.
    """

    LATENCY = 2

    def __init__(self, line_bytes: int, groups: int, ports: int = 1, words: int = 1 << 32) -> None:
        if ports < 1:
            raise TritapeError(f"ports must be at least 1, not {ports!r}")
        self._grain, self._words = grain(line_bytes, groups), words
        super().__init__(
            {
                "requests": In(stream.Signature(Request)),
                "fetches": Out(stream.Signature(Fetch)).array(ports),
                "runs": Out(stream.Signature(run_layout())),
                "refused": Out(1),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        word, line = self._grain.word, self._grain.line
        bits = line.bit_length() - 1  # units of a line: a power of two
        request, outputs = self.requests.payload, [*self.fetches, self.runs]
        start, size, length = Signal(32 + word.bit_length()), Signal(32 + word.bit_length()), Signal(32)
        skip, outside = start[:bits], Signal()
        first, count = Signal(32), Signal(32)
        stage = Signal(2)  # 0: idle, 1: products are there, 2: waiting for the outputs

        m.d.comb += self.requests.ready.eq(stage == 0)
        m.d.sync += self.refused.eq(0)
        for fetch in self.fetches:
            m.d.comb += [fetch.payload.line.eq(first), fetch.payload.count.eq(count)]
        for output in outputs:
            with m.If(output.valid & output.ready):
                m.d.sync += output.valid.eq(0)
        with m.Switch(stage):
            with m.Case(0):
                m.d.sync += [
                    start.eq(times(request.address, word)),
                    size.eq(times(request.length, word)),
                    length.eq(request.length),
                    outside.eq(ends_behind(request, self._words)),
                ]
                with m.If(self.requests.valid & (request.length != 0)):
                    m.d.sync += stage.eq(1)
            with m.Case(1):
                m.d.sync += [
                    first.eq(start >> bits),
                    count.eq((size + skip + (line - 1)) >> bits),
                    self.runs.payload.skip.eq(skip),
                    self.runs.payload.words.eq(length),
                    *(output.valid.eq(~outside) for output in outputs),
                    self.refused.eq(outside),
                    stage.eq(Mux(outside, 0, 2)),
                ]
            with m.Default(), m.If(~Cat(output.valid & ~output.ready for output in outputs).any()):
                m.d.sync += stage.eq(0)
        return m
