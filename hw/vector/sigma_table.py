"""The logistic function for the serial vector unit."""

from __future__ import annotations

from amaranth.hdl import Cat, Const, Module, Mux, Signal, signed
from amaranth.lib import wiring
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import In, Out

from tritape.model.arith import SIGMA, SIGMA_ONE


class SigmaTable(wiring.Component):
    """sigma of the `ALU`'s result for `SerialVector`: that of `SiLU`, without streams and without a multiplier.

    Ports: value: In, s18, 11 fraction bits; it must hold for `LATENCY` cycles. sigma: Out, u16, 0..32768: of `value`
    `LATENCY` cycles before. Cost: one block RAM of 1024 x 16. Tested: inside `SerialVector` (tests/test_hw_vector.py).
    Source: docs/contract.md, "Activation".
    """

    LATENCY = 2

    def __init__(self) -> None:
        super().__init__({"value": In(signed(18)), "sigma": Out(16)})

    def elaborate(self, platform: object) -> Module:
        m = Module()
        m.submodules.table = table = Memory(shape=16, depth=len(SIGMA), init=SIGMA.tolist())
        read = table.read_port()
        negative = self.value[-1]
        folded = (self.value ^ negative.replicate(18))[:17]  # |a|, one less for a < 0
        rounded = Signal(13)  # (|a| + 16) >> 5
        m.d.comb += [
            rounded.eq((folded + Cat(negative, Const(0, 3), Const(1, 1)))[5:]),
            read.addr.eq(rounded[:10] | rounded[10:].any().replicate(10)),
        ]
        m.d.sync += self.sigma.eq(Mux(negative, SIGMA_ONE - read.data, read.data))
        return m
