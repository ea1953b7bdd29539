"""Contents of the host protocol's frames (docs/protocol.md): commands out, replies in. Pure functions; no port is opened here."""

from __future__ import annotations

import struct
import zlib
from dataclasses import dataclass

from tritape.base.errors import TritapeError
from tritape.hw.link.commands import BATCH_VERSION, DATA_BYTES, PROTOCOL_VERSION, REPLY, Command, ErrorCode
from tritape.hw.tape.header import Fault
from tritape.model.codes import TERNARY5, WeightCode, code_numbered
from tritape.model.tape.layout import Geometry

__all__ = [
    "DATA_BYTES",
    "PROTOCOL_VERSION",
    "Command",
    "ErrorCode",
    "Identity",
    "Reply",
    "command",
    "inverse_temperature",
]

ERRORS = {
    ErrorCode.UNKNOWN_COMMAND: "command must be one the gateware knows, not another; use a host of the bitstream's version",
    ErrorCode.NOT_BOOTED: "a tape must be booted before tokens are fed, not none; load one first",
    ErrorCode.FAULT: "the sequencer must run, not stand at a fault; boot the tape again",
    ErrorCode.BUSY: "device must be idle, not run tokens; wait or stop them",
    ErrorCode.MEMORY: "memory of the device must answer without an error, not fail; check that it is started and its tape loaded",
    ErrorCode.RANGE: "memory address must be within the device's memory, not beyond; use `identify` for its size",
    ErrorCode.LENGTH: "data of a command must be what its count says, not more or less; use a host of the bitstream's version",
}
FAULTS = {
    Fault.MAGIC: "magic of the tape must be TTAP; load a tape first",
    Fault.VERSION: "version and weight code of the tape must be the bitstream's; pack it with the matching tritape, and --code "
    "as `identify` says",
    Fault.GROUPS: "groups of the tape must be the bitstream's; pack it with --groups as `identify` says",
    Fault.HIDDEN: "hidden size must be within the bitstream's limit; build one with a larger --max-hidden",
    Fault.INTERMEDIATE: "intermediate size must be within the bitstream's limit; build one with a larger --max-intermediate",
    Fault.LAYERS: "layers must be within the bitstream's limit; build one with more --max-layers",
    Fault.VOCABULARY: "vocabulary must be within the bitstream's limit; build one with a larger --max-vocab",
    Fault.ROWS: "rows a block must be within the bitstream's limit; pack the tape with fewer --rows",
    Fault.HEADER_CRC: "CRC-32 of the tape's header must be right; load the tape again",
    Fault.ROW_WORDS: "words of an embedding row must be at least 2; pack the tape again",
    Fault.REGION_WORDS: "words of prologue and body must be at least 1 each; pack the tape again",
    Fault.CHECK: "check of every section's header must be right; load the tape again, packed by this tritape",
    Fault.OPCODE: "opcode and mode of every section must be known; pack the tape again",
    Fault.ORDER: "order of the sections must be the tape's; load the tape again",
    Fault.TILES: "tiles of every section must be within the bitstream's limits; pack the tape again",
    Fault.BLOCK_ROWS: "rows of every section must be within the bitstream's limits; pack the tape again",
    Fault.PAYLOAD: "payload of every section must be as long as its fields say; pack the tape again",
    Fault.LENGTH: "length of every section must be within the bitstream's limits; pack the tape again",
    Fault.BASE: "state of every section must be within the bitstream's; pack the tape again",
    Fault.STARVED: "words of the tape must be there when a token needs them; check the memory, then load the tape again",
}
STOPPED = "device must go on to the last token, not stop; was it reset? load the tape again"
IDENTITY = struct.Struct("<BQHHHHHII")
HEADER = struct.Struct("<BBIH")  # kind, sequence, argument, count
REPLY_HEADER = struct.Struct("<BBIBB")  # kind, sequence, argument, status, flags


@dataclass(frozen=True)
class Identity:
    """What a bitstream says it is. Sizes as in `tritape.hw.config.Config`; memory in words of E G bytes."""

    version: int
    configuration: int
    groups: int
    max_hidden: int
    max_intermediate: int
    max_layers: int
    max_rows: int
    max_vocab: int
    memory_words: int
    engines: int = 1
    batch: int = 1
    """Tokens that one pass over the tape serves."""
    code: WeightCode = TERNARY5

    @property
    def geometry(self) -> Geometry:
        """Of the tapes that it runs."""
        return Geometry(self.groups, self.engines, self.code)

    @classmethod
    def decode(cls, data: bytes) -> Identity:
        """Parse the data of IDENTIFY's reply. Raises TritapeError for another protocol version or an unknown weight code."""
        extra = {PROTOCOL_VERSION: 0, BATCH_VERSION: 1}.get(data[0] if data else 0)
        if extra is None or len(data) != IDENTITY.size + extra:
            version = data[0] if data else 0
            raise TritapeError(
                f"protocol version of the device must be {PROTOCOL_VERSION} or {BATCH_VERSION}, not {version}; "
                "program a bitstream of this tritape"
            )
        version, configuration, size, *limits, vocab, words = IDENTITY.unpack_from(data)
        shape = [size & 0xFF, *limits, vocab & 0xFFFFFF, words, (size >> 8) + 1, data[-1] if extra else 1]
        values = [version, configuration, *shape, code_numbered(vocab >> 24)]
        return cls(*values)


@dataclass(frozen=True)
class Reply:
    """A reply, parsed."""

    kind: int
    sequence: int
    argument: int
    """The command's argument, as the command left it."""
    status: int
    """0, or an `ErrorCode`."""
    flags: int
    data: bytes

    @classmethod
    def decode(cls, content: bytes) -> Reply | None:
        """Parse a frame's content; None when it is no reply (too short, or a command that came back)."""
        if len(content) < REPLY_HEADER.size or not content[0] & REPLY:
            return None
        kind, sequence, argument, status, flags = REPLY_HEADER.unpack_from(content)
        return cls(kind & ~REPLY, sequence, argument, status, flags, content[REPLY_HEADER.size :])

    @property
    def fault(self) -> int:
        """Why the token loop stopped (`Fault`); 0: it did not."""
        return self.flags & 0x1F

    @property
    def running(self) -> bool:
        """Whether a run is under way."""
        return bool(self.flags & 0x20)

    @property
    def booted(self) -> bool:
        """Whether a tape has been accepted."""
        return bool(self.flags & 0x40)

    @property
    def damaged(self) -> bool:
        """Whether a section had a wrong CRC, or the memory told of an error, since the tape was booted."""
        return bool(self.flags & 0x80)


_PIECE = 1 << 20
_REVERSED = bytes(int(f"{byte:08b}"[::-1], 2) for byte in range(256))


def check_sum(data: bytes) -> int:
    """What CHECK answers for these bytes of memory: CRC-32 of them with the bits of each reversed.

    A plain CRC-32 would be the same for any two tapes of the same sizes: each section ends with its own, which cancels it.
    """
    crc = 0
    for start in range(0, len(data), _PIECE):  # an image may be larger than memory
        crc = zlib.crc32(bytes(data[start : start + _PIECE]).translate(_REVERSED), crc)
    return crc


def command(kind: int, sequence: int, argument: int = 0, count: int = 0, data: bytes = b"") -> bytes:
    """Content of a command's frame."""
    return HEADER.pack(kind, sequence, argument, count) + data


def inverse_temperature(temperature: float, logit_fraction: int) -> int:
    """The sampler's setting for a temperature: 0 for greedy. Raises TritapeError when out of the 17-bit range."""
    if temperature == 0:
        return 0
    value = round(2.0 ** (23 - logit_fraction) / temperature) if temperature > 0 else -1
    if not 1 <= value < 1 << 17:
        least = 2.0 ** (23 - logit_fraction) / ((1 << 17) - 1)
        raise TritapeError(f"temperature must be 0 or from {least:.3g} to 1000, not {temperature!r}; try 0.7")
    return value
