"""Bytes of the host protocol (docs/protocol.md): commands out, replies in. Pure functions; no port is opened here."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from dataclasses import dataclass

from tritape.hw.link.host_link import ERROR, PROTOCOL_VERSION, REPLY, Command
from tritape.model.errors import TritapeError

ERRORS = {
    1: "command must be one the gateware knows, not another; use a host of the bitstream's version",
    2: "a tape must be booted before tokens are fed, not none; load one first",
    3: "token must be within the tape's vocabulary, not outside; use the tokenizer of this tape",
    4: "the sequencer must run, not stand at a fault; boot the tape again",
}
FAULTS = {
    1: "magic of the tape must be TTAP; load a tape first",
    2: "version of the tape must be the bitstream's; pack it with the matching tritape",
    3: "groups of the tape must be the bitstream's; pack it with --groups as `identify` says",
    4: "hidden size must be within the bitstream's limit; build one with a larger --max-hidden",
    5: "intermediate size must be within the bitstream's limit; build one with a larger --max-intermediate",
    6: "layers must be within the bitstream's limit; build one with more --max-layers",
    7: "vocabulary must be within the bitstream's limit; build one with a larger --max-vocab",
    8: "rows a block must be within the bitstream's limit; pack the tape with fewer --rows",
    9: "CRC-32 of the tape's header must be right; load the tape again",
    10: "opcode of every section must be known; pack the tape again",
    11: "rows and tiles of every section must be within the bitstream's limits; pack the tape again",
}
IDENTITY = struct.Struct("<BQHHHHHII")


@dataclass(frozen=True)
class Identity:
    """What a bitstream says it is. Sizes as in `tritape.hw.config.Config`; memory in words of `groups` bytes."""

    version: int
    configuration: int
    groups: int
    max_hidden: int
    max_intermediate: int
    max_layers: int
    max_rows: int
    max_vocab: int
    memory_words: int

    @classmethod
    def decode(cls, data: bytes) -> Identity:
        """Parse the reply of IDENTIFY (without its first byte). Raises TritapeError for another protocol version."""
        identity = cls(*IDENTITY.unpack(data))
        if identity.version != PROTOCOL_VERSION:
            raise TritapeError(
                f"protocol version of the device must be {PROTOCOL_VERSION}, not {identity.version}; "
                "program a bitstream of this tritape"
            )
        return identity


def plain(command: Command) -> bytes:
    """IDENTIFY, BOOT, RESET or COUNTERS."""
    return bytes([command])


def write(address: int, data: bytes, groups: int) -> bytes:
    """WRITE of whole words, at most 65,535."""
    return struct.pack("<BIH", Command.WRITE, address, len(data) // groups) + data


def settings(inv_temperature: int, seed: int) -> bytes:
    """SETTINGS of the sampler."""
    return struct.pack("<BII", Command.SETTINGS, inv_temperature, seed)


def feed(tokens: Sequence[int]) -> bytes:
    """FEED of 1 to 65,535 tokens."""
    return struct.pack(f"<BH{len(tokens)}H", Command.FEED, len(tokens), *tokens)


def generate(count: int) -> bytes:
    """GENERATE of `count` tokens, at most 65,535."""
    return struct.pack("<BH", Command.GENERATE, count)


def check_reply(command: Command, first: int) -> None:
    """Raise TritapeError unless `first` is the first byte of this command's reply (an error reply is not accepted)."""
    if first != command | REPLY:
        raise TritapeError(
            f"reply to {command.name} must start with {command | REPLY:#04x}, not {first:#04x}; "
            "is this a tritape device? reset it"
        )


def is_error(first: int) -> bool:
    """Whether a reply's first byte announces an error code."""
    return first == ERROR


def inverse_temperature(temperature: float, logit_fraction: int) -> int:
    """The sampler's setting for a temperature: 0 for greedy. Raises TritapeError when out of the 17-bit range."""
    if temperature == 0:
        return 0
    value = round(2.0 ** (23 - logit_fraction) / temperature) if temperature > 0 else -1
    if not 1 <= value < 1 << 17:
        least = 2.0 ** (23 - logit_fraction) / ((1 << 17) - 1)
        raise TritapeError(f"temperature must be 0 or from {least:.3g} to 1000, not {temperature!r}; try 0.7")
    return value
