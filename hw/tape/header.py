"""Field layouts of the tape (docs/contract.md, "Tape words"): section header and payload of the HEADER section."""

from __future__ import annotations

from amaranth.hdl import signed
from amaranth.lib import data, enum

MAGIC = int.from_bytes(b"TTAP", "little")
VERSION = 1
SECTION_BYTES = 32
"""Bytes of a section header, before padding to words."""
PAYLOAD_BYTES = 64
"""Bytes of the payload of the HEADER section, before padding to words."""


class Opcode(enum.IntEnum):
    """First byte of a section."""

    HEADER = 1
    LOAD = 2
    PREP = 3
    EMBED = 4
    MATVEC = 5
    END = 6


class Mode(enum.IntEnum):
    """Second byte of a MATVEC: where its rows go."""

    I = 0
    F = 1
    G = 2
    GATE_UP = 3
    RESIDUAL = 4
    LOGITS = 5


class Fault(enum.IntEnum):
    """Why the sequencer stopped (`fault_code`); 0 while it has not."""

    NONE = 0
    MAGIC = 1
    VERSION = 2
    GROUPS = 3
    HIDDEN = 4
    INTERMEDIATE = 5
    LAYERS = 6
    VOCABULARY = 7
    ROWS = 8
    HEADER_CRC = 9
    OPCODE = 10
    LIMIT = 11


SectionHeader = data.StructLayout(
    {
        "opcode": 8,
        "mode": 8,
        "flags": 8,
        "shift": 8,
        "index": 16,
        "tiles": 16,
        "payload": 32,
        "length": 32,
        "rows": 16,
        "mantissa": 16,
        "base": 32,
        "eps": 48,
        "exponent": signed(8),
        "zero": 8,
    }
)
"""The 32 bytes that begin every section."""

TapeHeader = data.StructLayout(
    {
        "magic": 32,
        "version": 16,
        "groups": 16,
        "hidden": 16,
        "intermediate": 16,
        "layers": 16,
        "rows": 16,
        "vocabulary": 32,
        "prologue_address": 32,
        "prologue_words": 32,
        "body_address": 32,
        "body_words": 32,
        "embedding_address": 32,
        "row_words": 32,
        "logit_fraction": 8,
    }
)
"""The meaningful 45 bytes of the payload of the HEADER section."""


def words(size: int, groups: int) -> int:
    """Words of `groups` bytes that hold `size` bytes."""
    return -(-size // groups)
