"""The queue between the sequencer and what a PREP tells: the norm and the residual."""

from __future__ import annotations

from amaranth.hdl import Module, Mux, Signal, Value
from amaranth.lib import stream

from tritape.hw.commands import ResidualMode
from tritape.hw.tape.header import Opcode
from tritape.hw.tape.section import SectionRegisters


def preparations(
    m: Module, s: SectionRegisters, norm: stream.Interface, residual: stream.Interface, *, direct: bool
) -> Value:
    """Queues of the PREPs: two for the residual, each giving two commands, one for the norm. Returns: there is room.

    direct: the norm's constants are in its command already (`Sequencer`).
    """
    header = s.header
    with m.If(norm.ready):
        m.d.sync += norm.valid.eq(0)

    behind, full = Signal.like(residual.payload), Signal()
    front, second = Signal.like(residual.payload), Signal()
    m.d.comb += [residual.payload.eq(front), residual.payload.mode.eq(Mux(second, ResidualMode.READ, front.mode))]
    with m.If(residual.valid & residual.ready):
        m.d.sync += second.eq(~second)
    with m.If(~residual.valid | (residual.ready & second)):
        m.d.sync += [front.eq(behind), residual.valid.eq(full), full.eq(0)]

    with m.If(s.opcode[Opcode.PREP] & s.closing & s.taken):
        m.d.sync += [
            norm.valid.eq(1),
            norm.payload.length.eq(header.length),
            norm.payload.bank.eq(header.flags[0]),
            norm.payload.keep.eq(header.flags[2]),
            norm.payload.mantissa.eq(header.mantissa),
            full.eq(1),
            behind.mode.eq(header.mode),
            behind.region.eq(header.flags[1]),
            behind.length.eq(header.length),
        ]
        if not direct:
            m.d.sync += [norm.payload.eps.eq(header.eps), norm.payload.exponent.eq(header.exponent)]
    return ~full & ~norm.valid
