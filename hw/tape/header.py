"""Field layouts of the tape (docs/contract.md, "Tape words"): section header and payload of the HEADER section."""

from __future__ import annotations

from enum import IntEnum

from amaranth.hdl import signed
from amaranth.lib import data

from tritape.model.tape.layout import CHECK, HEADER_BYTES, HEADER_PAYLOAD_BYTES, MAGIC, VERSION, MatvecMode, Opcode

__all__ = [
    "CHECK",
    "FAULT_BITS",
    "HEADER_BYTES",
    "HEADER_PAYLOAD_BYTES",
    "MAGIC",
    "VERSION",
    "Fault",
    "MatvecMode",
    "Opcode",
    "SectionHeader",
    "TapeHeader",
    "words",
]


class Fault(IntEnum):
    """Why the token loop stopped (`fault_code`); 0 while it has not. The host's words for each: `tritape.host.protocol`."""

    NONE = 0
    # The HEADER section
    MAGIC = 1
    VERSION = 2
    GROUPS = 3
    HIDDEN = 4
    INTERMEDIATE = 5
    LAYERS = 6
    VOCABULARY = 7
    ROWS = 8
    HEADER_CRC = 9
    ROW_WORDS = 10
    REGION_WORDS = 11
    # A section's header
    CHECK = 12
    OPCODE = 13
    ORDER = 14
    TILES = 15
    BLOCK_ROWS = 16
    PAYLOAD = 17
    LENGTH = 18
    BASE = 19
    # Anywhere
    STARVED = 20


FAULT_BITS = 5

SectionHeader = data.StructLayout(
    {
        "opcode": 8,
        "mode": 8,
        "flags": 8,
        "shift": 8,
        "index": 16,
        "tiles": 16,
        "rows": 16,
        "mantissa": 16,
        "payload": 24,
        "length": 24,
        "base": 24,
        "exponent": signed(8),
        "eps": 48,
        "check": 32,
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
