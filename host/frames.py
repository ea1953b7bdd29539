"""Frames of the host protocol: COBS and CRC-32 around bytes (docs/protocol.md)."""

from __future__ import annotations

import zlib

from cobs import cobs

from tritape.base.errors import TritapeError
from tritape.hw.link.frame_port import FRAME_BYTES


def encode(content: bytes) -> bytes:
    """The frame of `content` with a zero before and behind it. Raises TritapeError for more than FRAME_BYTES - 4 bytes."""
    if len(content) > FRAME_BYTES - 4:
        raise TritapeError(f"frame must have at most {FRAME_BYTES - 4} bytes, not {len(content)}; send less at a time")
    return b"\0" + cobs.encode(content + zlib.crc32(content).to_bytes(4, "little")) + b"\0"


def decode(encoded: bytes) -> bytes | None:
    """The content of what stood between two zeros; None when it is damaged."""
    try:
        frame = cobs.decode(encoded)
    except cobs.DecodeError:
        return None
    if len(frame) < 5 or zlib.crc32(frame[:-4]) != int.from_bytes(frame[-4:], "little"):
        return None
    return frame[:-4]
