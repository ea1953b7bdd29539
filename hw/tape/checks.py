"""What the sequencer refuses: sections that it must not obey, and tapes for another configuration or too damaged to run."""

from __future__ import annotations

from collections.abc import Mapping

from amaranth.hdl import Module, Mux, Signal, Value
from amaranth.lib import data

from tritape.hw.config import Config
from tritape.hw.exceeds import exceeds
from tritape.hw.tape.header import (
    MAGIC,
    VERSION,
    Fault,
    MatvecMode,
    Opcode,
    words,
)

COMPARED_BYTES = 16
"""magic to rows of the HEADER payload: compared with the configuration, then forgotten."""


def first_of(tests: Mapping[Fault, Value]) -> Value:
    """The code of the first test that is true, 0 if none is."""
    code: Value = Value.cast(Fault.NONE)
    for fault, test in reversed(list(tests.items())):
        code = Mux(test, fault, code)
    return code


def registered(m: Module, tests: Mapping[Fault, Value], now: Value | int = 1) -> dict[Fault, Value]:
    """The same tests a cycle later; each is 0 where `now` was not 1."""
    flags: dict[Fault, Value] = {}
    for fault, test in tests.items():
        flags[fault] = flag = Signal(name=f"wrong_{fault.name.lower()}")
        m.d.sync += flag.eq(test & now)
    return flags


def unknown(header: data.View) -> Value:
    """The section's opcode, mode or target does not exist."""
    result = ~exceeds(header.opcode, 1) | exceeds(header.opcode, 6)
    for opcode, count in {Opcode.LOAD: 3, Opcode.PREP: 3, Opcode.MATVEC: 6}.items():
        result |= (header.opcode == opcode) & exceeds(header.mode, count - 1)
    return result


def _outside(value: Value, limit: int) -> Value:
    """`value` is not in 1..limit."""
    return ~value.any() | exceeds(value, limit)


def _ends_beyond(base: Value, length: Value, limit: int) -> Value:
    """`base + length > limit`; what is above the bits of `limit` has no part in the sum."""
    bits = limit.bit_length()
    return base[bits:].any() | length[bits:].any() | exceeds(base[:bits] + length[:bits], limit)


def of_fields(config: Config, header: data.View, payload: Value, other_groups: Value) -> dict[Fault, Value]:
    """What may be wrong in a section's header although its check is right: the tape was made for other limits, or wrongly.

    payload: the bits of it that are used; other_groups: the tape is for words of another size, and the only
    thing that a serial configuration looks at: there only the host knows the limits, and what it lets through starves.
    """
    opcode = {code: header.opcode == code for code in Opcode}
    matvec = opcode[Opcode.MATVEC]
    rows, tiles = config.lane(config.max_rows), config.max_tiles
    if config.serial:
        return {Fault.GROUPS: other_groups}
    longest = config.lane(config.max_length)
    gains = words(2 * longest, 2 * (config.groups // 2))
    state = config.max_layers * config.lane(config.max_hidden)
    bare = opcode[Opcode.PREP] | opcode[Opcode.EMBED] | opcode[Opcode.END]
    vector = opcode[Opcode.LOAD] | opcode[Opcode.PREP] | opcode[Opcode.EMBED]
    uses_state = matvec & ((header.mode == MatvecMode.F) | (header.mode == MatvecMode.G))
    return {
        Fault.GROUPS: other_groups,
        Fault.TILES: matvec & _outside(header.tiles, tiles),
        Fault.BLOCK_ROWS: matvec & _outside(header.rows, rows),
        Fault.PAYLOAD: (matvec & ~payload.any())
        | (bare & payload.any())
        | (opcode[Opcode.LOAD] & _outside(payload, gains)),
        Fault.LENGTH: (vector & _outside(header.length, longest))
        | (matvec & ~header.length.any()),  # a longer one starves
        Fault.BASE: uses_state & _ends_beyond(header.base, header.length, state),
    }


def of_tape(config: Config, tape: data.View, numbers: Mapping[str, Value]) -> dict[Fault, Value]:
    """What may be wrong in the payload of HEADER, besides its CRC. numbers: the bits of its counts of words that are used."""
    empty = ~numbers["prologue_words"].any() | ~numbers["body_words"].any()
    regions = {} if config.serial else {Fault.REGION_WORDS: empty}
    return {
        Fault.MAGIC: tape.magic != MAGIC,
        Fault.VERSION: tape.version != VERSION | config.weight_code.number << 8,
        Fault.GROUPS: tape.groups != config.geometry_code,
        Fault.HIDDEN: exceeds(tape.hidden, config.max_hidden),
        Fault.INTERMEDIATE: exceeds(tape.intermediate, config.max_intermediate),
        Fault.LAYERS: exceeds(tape.layers, config.max_layers),
        Fault.VOCABULARY: exceeds(tape.vocabulary, config.max_vocab),
        Fault.ROWS: exceeds(tape.rows, config.max_rows),
        Fault.ROW_WORDS: ~exceeds(numbers["row_words"], 1),
        **regions,
    }
