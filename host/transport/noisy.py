"""Bad wires, for tests and for the bars of the link."""

from __future__ import annotations

import random

from tritape.base.errors import TritapeError
from tritape.host.transport import Transport


class NoisyTransport:
    """`Transport` through another one: of the bytes of each direction a fraction `rate` is flipped, dropped or doubled."""

    def __init__(self, inner: Transport, rate: float, seed: int = 0) -> None:
        self._inner = inner
        self._rate = rate
        self._random = random.Random(seed)
        self.damaged = 0
        """Bytes that arrived wrong, twice or not at all."""

    def read(self, timeout_s: float) -> bytes:
        """See `Transport`."""
        return self._damage(self._inner.read(timeout_s))

    def write(self, data: bytes) -> None:
        """See `Transport`."""
        self._inner.write(self._damage(data))

    def discard(self) -> None:
        """See `Transport`."""
        self._inner.discard()

    def close(self) -> None:
        """See `Transport`."""
        self._inner.close()

    def _damage(self, data: bytes) -> bytes:
        out = bytearray()
        for byte in data:
            if self._random.random() >= self._rate:
                out.append(byte)
                continue
            self.damaged += 1
            kind = self._random.randrange(3)
            if kind == 0:
                out.append(byte ^ 1 << self._random.randrange(8))
            elif kind == 1:
                out += bytes([byte, byte])
        return bytes(out)


class CutTransport:
    """`Transport` through another one that outlives it, like a board whose cable is pulled: after `left` bytes all fails."""

    def __init__(self, inner: Transport, left: int | None = None) -> None:
        self._inner = inner
        self.left = left
        """Bytes until the cut; None: never."""

    def read(self, timeout_s: float) -> bytes:
        """See `Transport`."""
        data = self._inner.read(timeout_s)
        self._pass(len(data))
        return data

    def write(self, data: bytes) -> None:
        """See `Transport`."""
        self._inner.write(data if self.left is None else data[: max(self.left, 0)])
        self._pass(len(data))

    def discard(self) -> None:
        """See `Transport`."""
        self._inner.discard()

    def close(self) -> None:
        """Nothing: the wire goes on."""

    def _pass(self, count: int) -> None:
        if self.left is not None:
            self.left -= count
            if self.left < 0:
                raise TritapeError("port must stay connected, not go away; check the cable and open it again")
