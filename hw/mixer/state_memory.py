"""A deep memory of values in block RAM, with registers where a wide multiplexer would be slow."""

from __future__ import annotations

from amaranth import Module, Signal, signed
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import Component, In, Out

from tritape.hw.assertion import check


class StateMemory(Component):
    """Keeps the recurrent state of all layers for `MLGRU`, and a layer's candidates: `depth` values of 18 bits, one write and
    one read a cycle, all zero at power-up. It stays fast where it is deep.

    Parameters
        depth: values, at least 1. A write must not go to an address past it

    Ports
        write_address: In; write_data: In, s18; write: In, u1
        read_address: In; read_data: Out, s18: what was at the address given `LATENCY` cycles before, as of then
        enable: In, u1: the stages of the read move. Reads stand still while it is low; writes do not care

    The memory is cut into banks of 1,024 values (one ECP5 block RAM). A read takes one cycle for the block RAM, one for
    a register behind each bank and one for the choice between the banks.

    What is read from an address in the very cycle that it is written has no meaning: Yosys is told so (`no_rw_check`)
    and leaves out the logic that would define it, a LUT a bit of every bank and more.

    Rate: a read and a write a cycle. Latency: `LATENCY` enabled cycles of a read.
    Cost: ceil(depth / 1024) block RAMs of 1024 x 18, 18 flip-flops a bank and a multiplexer. Tested inside `MLGRU` for
    one and several banks. Source: docs/contract.md, "MLGRU pipeline" (the state h, the candidate c).
    """

    LATENCY = 3
    BANK = 1024

    def __init__(self, depth: int) -> None:
        self.depth = depth
        address_bits = max(1, (depth - 1).bit_length())
        super().__init__(
            {
                "write_address": In(address_bits),
                "write_data": In(signed(18)),
                "write": In(1),
                "read_address": In(address_bits),
                "read_data": Out(signed(18)),
                "enable": In(1),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        with m.If(self.write):
            check(m, platform, self.write_address < self.depth, "a write must not go to an address past the depth")
        banks = -(-self.depth // self.BANK)
        low_bits = min(10, len(self.read_address))
        behind = Signal(18 * banks)  # one register a bank
        for bank in range(banks):
            size = min(self.BANK, self.depth - bank * self.BANK)
            memory = Memory(shape=signed(18), depth=size, init=[], attrs={"no_rw_check": 1})
            m.submodules[f"bank{bank}"] = memory
            read, write = memory.read_port(), memory.write_port()
            m.d.comb += [
                read.en.eq(self.enable),
                read.addr.eq(self.read_address[:low_bits]),
                write.addr.eq(self.write_address[:low_bits]),
                write.data.eq(self.write_data),
                write.en.eq(self.write & (self.write_address[low_bits:] == bank)),
            ]
            with m.If(self.enable):
                m.d.sync += behind.word_select(bank, 18).eq(read.data)
        chosen = [self.read_address[low_bits:]]
        with m.If(self.enable):
            for stage in (1, 2):
                later = Signal(len(chosen[-1]), name=f"bank_of_stage{stage}")
                m.d.sync += later.eq(chosen[-1])
                chosen.append(later)
            m.d.sync += self.read_data.eq(behind.word_select(chosen[-1], 18) if banks > 1 else behind)
        return m
