"""Commands and replies over an unreliable pipe: numbered, repeated until answered, one at a time."""

from __future__ import annotations

import random
from collections.abc import Callable

from tritape.base.errors import TritapeError
from tritape.host import frames, protocol
from tritape.host.protocol import Command, ErrorCode, Reply
from tritape.host.transport import PlacingTransport, Transport

RETRY_S = 0.05
"""After so long without an answer a command is sent again, then after twice and four times as long."""
SILENCE_S = 2.0
"""After so long without any byte the device is given up."""
VIRTUAL_SILENCE_S = 60.0
"""The same behind a pseudo-terminal: a simulation on a loaded machine is slow, not silent."""
_PATIENCE = 30  # damaged or busy answers in a row before giving up
_NOISE_BYTES = 4096  # without a reply among them, it is time to ask again


class Link:
    """Stop and wait over a `Transport`. The device obeys a sequence number once and answers a repetition from memory.

    `call` returns the reply's data or raises TritapeError: an error that the device reports, or silence. `resent` counts
    repetitions. `open` starts a session: it ends what an earlier host left running, and forgets late replies of its own.
    `judge`: called with every reply before its status is looked at; it may raise.
    """

    def __init__(self, transport: Transport, retry_s: float = RETRY_S, silence_s: float = SILENCE_S) -> None:
        self._transport = transport
        self._silence_s = silence_s
        self._retry_s = retry_s
        self._sequence = random.randrange(256)
        self._received = b""
        self.resent = 0
        self.judge: Callable[[Reply], None] | None = None

    def open(self) -> Reply:
        """Identify the device; its reply."""
        session = random.getrandbits(32)
        self._transport.discard()
        self._received = b""
        return self._exchange(Command.IDENTIFY, session, 0, b"", session)

    def call(
        self,
        kind: Command,
        argument: int = 0,
        count: int = 0,
        data: bytes = b"",
        meanwhile: Callable[[], None] | None = None,
    ) -> Reply:
        """Have one command obeyed; `meanwhile` is done while the device is at it. Raises TritapeError when it refuses."""
        for _ in range(_PATIENCE):
            reply = self._exchange(kind, argument, count, data, meanwhile=meanwhile)
            meanwhile = None
            if reply.status != ErrorCode.BUSY:
                break
        if self.judge is not None:
            self.judge(reply)
        if reply.status:
            if reply.status in protocol.ERRORS:
                raise TritapeError(protocol.ERRORS[ErrorCode(reply.status)])
            raise TritapeError(f"error code of the device must be known, not {reply.status}; program it again")
        return reply

    def place(self, image: bytes) -> None:
        """Let a transport that reaches the memory itself put a tape's image there; any other leaves it to commands."""
        if isinstance(self._transport, PlacingTransport):
            self._transport.place(image)

    def close(self) -> None:
        """Close the transport."""
        self._transport.close()

    def _exchange(
        self,
        kind: Command,
        argument: int,
        count: int,
        data: bytes,
        session: int | None = None,
        meanwhile: Callable[[], None] | None = None,
    ) -> Reply:
        self._sequence = (self._sequence + 1) % 256
        content = protocol.command(kind, self._sequence, argument, count, data)
        frame = frames.encode(content)
        wait, silent, useless, echoed = self._retry_s, 0.0, 0, False
        while True:
            self._transport.write(frame)
            if meanwhile is not None:
                meanwhile()
                meanwhile = None
            heard = 0
            while arrived := self._transport.read(wait):
                heard += len(arrived)
                *whole, self._received = (self._received + arrived).split(b"\0")
                for encoded in whole:
                    got = frames.decode(encoded)
                    echoed |= got == content
                    reply = None if got is None else Reply.decode(got)
                    if reply is None or (reply.kind, reply.sequence) != (kind, self._sequence):
                        continue
                    if session is None or reply.argument == session:
                        return reply
                if heard > _NOISE_BYTES:
                    break
            self._received = b""
            silent, useless = (0.0, useless + 1) if heard else (silent + wait, useless)
            if echoed:
                raise TritapeError(
                    "port must lead to a device, not back to itself; connect its transmitter to the receiver"
                )
            if silent >= self._silence_s:
                raise TritapeError(
                    f"device must answer, not stay silent for {self._silence_s:g} s; "
                    "check the port, the cable, the baud rate and that the board is programmed"
                )
            if useless >= _PATIENCE:
                raise TritapeError(
                    "answers must be frames of the host protocol, not other bytes; "
                    "check the baud rate and that the board carries tritape"
                )
            wait = min(2 * wait, 4 * self._retry_s)
            self.resent += 1
