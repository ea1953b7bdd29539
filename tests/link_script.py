"""Commands of the host protocol and the replies that must come, byte for byte, for benches of the gateware."""

import struct

from tritape.host import frames, protocol
from tritape.hw.link.commands import REPLY, Command

BOOTED, RUNNING, DAMAGED = 0x40, 0x20, 0x80


class Script:
    """Collects a session: `rx` and `tx` bytes; `gates` let each command wait for the reply before it."""

    def __init__(self, flags: int = 0) -> None:
        self.rx = self.tx = b""
        self.gates: list[tuple[int, str, int]] = []
        self.flags = flags
        self.sequence = 0

    def send(
        self,
        kind: int,
        argument: int = 0,
        count: int = 0,
        data: bytes = b"",
        *,
        back: bytes = b"",
        status: int = 0,
        flags: int | None = None,
        left: int | None = None,
    ) -> None:
        """A command, and its reply with data `back`; `left` is the argument that the reply tells, if it is another."""
        self.sequence += 1
        if self.rx:
            self.gates.append((len(self.rx), "tx", len(self.tx)))
        self.rx += frames.encode(protocol.command(kind, self.sequence, argument, count, data))
        head = protocol.REPLY_HEADER.pack(
            kind | REPLY,
            self.sequence,
            argument if left is None else left,
            status,
            self.flags if flags is None else flags,
        )
        self.tx += frames.encode(head + back)[1:]

    def write(self, address: int, data: bytes, groups: int) -> None:
        """WRITE of a memory image, in as many commands as it takes."""
        piece = protocol.DATA_BYTES // groups * groups
        for start in range(0, len(data), piece):
            part = data[start : start + piece]
            at, words = address + start // groups, len(part) // groups
            self.send(Command.WRITE, at, words, part, left=at + words)

    def load(self, tokens: list[int], *, position: int, fresh: bool) -> None:
        """LOAD at a ring position."""
        data = struct.pack(f"<{len(tokens)}H", *tokens)
        argument = position | fresh << 16
        self.send(Command.LOAD, argument, len(tokens), data, left=argument + len(tokens))

    def poll(self, position: int, tokens: list[int]) -> None:
        """POLL for these tokens, each let go when the one before has come."""
        for place, token in enumerate(tokens, start=position):
            self.send(Command.POLL, place | (place + 1) << 8, 5, back=struct.pack("<H", token))
