"""A recorded session played back: a device that answers as it once did, and insists on the same commands."""

from __future__ import annotations

from pathlib import Path

from tritape.base.errors import TritapeError

HEADER = "# tritape session 1: "


class ReplayTransport:
    """`Transport` over a file that `tritape board --record` or `VirtualBoard(record=...)` wrote.

    The file has lines of `>` (to the device) or `<` (from it) and hexadecimal bytes. `write` raises TritapeError at the first
    byte that differs from the recorded one, with its position; `read` gives what the device sent before the next recorded
    write, and nothing where it waited for one. `end` raises unless all was played.

    A host draws session and sequence numbers at random: seed `random` as when the session was recorded.
    """

    def __init__(self, path: Path) -> None:
        self._name = str(path)
        lines = Path(path).read_text(encoding="ascii", errors="replace").splitlines()
        board = lines[0].removeprefix(HEADER).split() if lines and lines[0].startswith(HEADER) else []
        if not board:
            raise TritapeError(f"{path}: file must be a recorded session, not something else; record one")
        self.board = board[0]
        """Name of the board that was recorded."""
        self._turns: list[tuple[str, bytes]] = []
        for number, line in enumerate(lines[1:], 2):
            direction, _, digits = line.partition(" ")
            try:
                data = bytes.fromhex(digits)
            except ValueError:
                data = b""
            if direction not in ("<", ">") or not data:
                raise TritapeError(
                    f"{path}: line {number} must be < or > and hexadecimal bytes, not {line[:40]!r}; record again"
                )
            if self._turns and self._turns[-1][0] == direction:
                data = self._turns.pop()[1] + data
            self._turns.append((direction, data))
        self._turn = self._at = 0  # the turn, and how much of it is played
        self._played = 0  # bytes to the device

    def write(self, data: bytes) -> None:
        """Compare with what was sent. TritapeError at the first difference."""
        for byte in data:
            direction, recorded = self._turns[self._turn] if self._turn < len(self._turns) else ("", b"")
            if direction != ">":
                waiting = "the session has ended" if not direction else "the device speaks"
                raise TritapeError(
                    f"{self._name}: byte {self._played} to the device must not come ({waiting}), not be {byte:#04x}; "
                    "record again if the protocol was changed"
                )
            if byte != recorded[self._at]:
                raise TritapeError(
                    f"{self._name}: byte {self._played} to the device must be {recorded[self._at]:#04x}, not {byte:#04x}; "
                    "record again if the protocol was changed"
                )
            self._played += 1
            self._advance(1, len(recorded))

    def read(self, timeout_s: float) -> bytes:
        """What the device sent at this point; nothing where it had nothing to say."""
        if self._turn == len(self._turns) or self._turns[self._turn][0] != "<":
            return b""
        data = self._turns[self._turn][1][self._at :]
        self._advance(len(data), len(data) + self._at)
        return data

    def discard(self) -> None:
        """Nothing comes unasked in a recording."""

    def close(self) -> None:
        """See `Transport`."""

    def end(self) -> None:
        """Raise TritapeError when part of the session was not played."""
        if self._turn < len(self._turns):
            left = sum(len(data) for _, data in self._turns[self._turn :]) - self._at
            raise TritapeError(
                f"{self._name}: session must be played to its end, not have {left} bytes left; run all of it"
            )

    def _advance(self, count: int, whole: int) -> None:
        self._at += count
        if self._at == whole:
            self._turn, self._at = self._turn + 1, 0
