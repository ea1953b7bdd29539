"""The host protocol's numbers (docs/protocol.md), which `HostLink` and the host's software both use."""

from __future__ import annotations

import enum

from tritape.hw.config import Config
from tritape.hw.link.frame_port import CRC_BYTES, FRAME_BYTES, HEADER_BYTES

PROTOCOL_VERSION = 4
BATCH_VERSION = 5
"""Version that a device with several slots tells: version 4 and what docs/protocol.md says of slots."""
REPLY = 0x80
"""A reply's first byte is the command's plus this."""
DATA_BYTES = FRAME_BYTES - CRC_BYTES - HEADER_BYTES
"""Most bytes behind the header of a command or a reply: the host must not ask for more."""
IDLE = 0x10
"""Bit of the commands that are refused (BUSY) while tokens run."""


class Command(enum.IntEnum):
    """First byte of a command; docs/protocol.md lists argument, count and data of each."""

    IDENTIFY = 0x01
    POLL = 0x02
    STOP = 0x03
    LOGITS = 0x04
    COUNTERS = 0x05
    RESTART = 0x06
    WRITE = 0x10
    READ = 0x11
    CHECK = 0x12
    BOOT = 0x13
    SEED = 0x14
    TEMPERATURE = 0x15
    LOAD = 0x16
    READ_STATE = 0x17
    WRITE_STATE = 0x18
    SLOT = 0x19  # only with several slots


class ErrorCode(enum.IntEnum):
    """Third byte of a reply; 0: obeyed."""

    UNKNOWN_COMMAND = 1
    NOT_BOOTED = 2
    FAULT = 3
    BUSY = 4
    MEMORY = 5
    RANGE = 6
    LENGTH = 7


def identity(config: Config, memory_words: int) -> bytes:
    """What IDENTIFY tells behind the head of its reply, laid out in docs/protocol.md."""
    return (
        (PROTOCOL_VERSION if config.batch == 1 else BATCH_VERSION).to_bytes(1, "little")
        + config.hash64().to_bytes(8, "little")
        + b"".join(
            value.to_bytes(2, "little")
            for value in (
                config.geometry_code,
                config.max_hidden,
                config.max_intermediate,
                config.max_layers,
                config.max_rows,
            )
        )
        + config.max_vocab.to_bytes(3, "little")
        + config.weight_code.number.to_bytes(1, "little")
        + memory_words.to_bytes(4, "little")
        + (bytes([config.batch]) if config.batch > 1 else b"")
    )
