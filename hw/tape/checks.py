"""What the sequencer refuses: sections that it must not obey, and tapes for another configuration."""

from __future__ import annotations

from amaranth.hdl import Module, Mux, Signal, Value
from amaranth.lib import data

from tritape.hw.config import Config
from tritape.hw.exceeds import exceeds
from tritape.hw.tape.header import MAGIC, VERSION, Fault, Opcode

COMPARED_BYTES = 16
"""magic to rows of the HEADER payload: compared with the configuration, then forgotten."""


def refusal(config: Config, header: data.View, configured: Value) -> tuple[Value, Value]:
    """Whether the section that `header` begins must not be obeyed, and why (0 if it may)."""
    modes = {Opcode.LOAD: 3, Opcode.PREP: 3, Opcode.MATVEC: 6}
    unknown = ~exceeds(header.opcode, 1) | exceeds(header.opcode, 6)
    for opcode, count in modes.items():
        unknown |= (header.opcode == opcode) & exceeds(header.mode, count - 1)
    beyond = exceeds(header.rows, config.lane(config.max_rows)) | exceeds(header.tiles, config.max_tiles)
    beyond &= header.opcode == Opcode.MATVEC
    other = header.opcode != Opcode.HEADER  # before the tape's header
    refused = Mux(configured, unknown | beyond, other)
    known = Mux(unknown, Fault.OPCODE, Mux(beyond, Fault.LIMIT, Fault.NONE))
    return refused, Mux(configured, known, Mux(other, Fault.MAGIC, Fault.NONE))


def mismatch(m: Module, config: Config, tape: data.View, bad_crc: Value) -> Value:
    """What is wrong with the HEADER payload, 0 if nothing; the comparisons are registered."""
    tests = {
        Fault.MAGIC: tape.magic != MAGIC,
        Fault.HEADER_CRC: bad_crc,
        Fault.VERSION: tape.version != VERSION,
        Fault.GROUPS: tape.groups != config.geometry_code,
        Fault.HIDDEN: exceeds(tape.hidden, config.max_hidden),
        Fault.INTERMEDIATE: exceeds(tape.intermediate, config.max_intermediate),
        Fault.LAYERS: exceeds(tape.layers, config.max_layers),
        Fault.VOCABULARY: exceeds(tape.vocabulary, config.max_vocab),
        Fault.ROWS: exceeds(tape.rows, config.max_rows),
    }
    code: Value = Value.cast(Fault.NONE)
    for fault, test in reversed(tests.items()):
        flag = test
        if fault is not Fault.HEADER_CRC:
            flag = Signal(name=f"wrong_{fault.name.lower()}")  # type: ignore[attr-defined]
            m.d.sync += flag.eq(test)
        code = Mux(flag, fault, code)
    return code
