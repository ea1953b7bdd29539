"""A saved sequence as bytes: the recurrent state and what the host knows of its tokens."""

from __future__ import annotations

import struct
import zlib
from dataclasses import dataclass

from tritape.base.errors import TritapeError

_MAGIC = b"TRITSTAT"
# Magic, CRC of the tape, hidden, layers, last token, flags, tokens, CRC of the rest.
_STATE = struct.Struct("<8sIHHHBBI")
_FRESH, _TOKEN = 1, 2  # flags: nothing was fed yet; the last token is known


@dataclass(frozen=True)
class SavedState:
    """A sequence between two tokens. `tape_crc` is 0 where the tape is not known."""

    tape_crc: int
    hidden: int
    layers: int
    elements: bytes
    """Of the recurrent state, as READ_STATE gives them."""
    fresh: bool
    """Nothing was fed yet."""
    last: int | None
    """The token that was chosen last and not fed, where it is known."""
    ahead: tuple[int, ...] = ()
    """Tokens chosen and given to nobody yet."""

    def pack(self) -> bytes:
        """The bytes."""
        body = self.elements + struct.pack(f"<{len(self.ahead)}H", *self.ahead)
        flags = self.fresh * _FRESH | (self.last is not None) * _TOKEN
        shape = (self.hidden, self.layers)
        crc = zlib.crc32(body)
        return _STATE.pack(_MAGIC, self.tape_crc, *shape, self.last or 0, flags, len(self.ahead), crc) + body

    @classmethod
    def unpack(cls, data: bytes, shape: tuple[int, int], tape_crc: int, size: int) -> SavedState:
        """What `pack` made for a tape with this (hidden, layers), CRC (0: unknown) and bytes of elements. Raises TritapeError
        for bytes that are not one, are damaged, or are another tape's."""
        if len(data) < _STATE.size or not data.startswith(_MAGIC):
            raise TritapeError("state must be what save_state gave, not other bytes; save it again")
        _, tape, hidden, layers, last, flags, ahead, crc = _STATE.unpack_from(data)
        body = data[_STATE.size :]
        if (hidden, layers) != shape or (tape and tape_crc and tape != tape_crc):
            raise TritapeError("state must be of the tape that is loaded, not of another; load that tape")
        if len(body) != size + 2 * ahead or zlib.crc32(body) != crc:
            raise TritapeError("state must be whole, not cut or damaged; save it again")
        tokens = struct.unpack(f"<{ahead}H", body[size:])
        return cls(tape, hidden, layers, body[:size], bool(flags & _FRESH), last if flags & _TOKEN else None, tokens)
