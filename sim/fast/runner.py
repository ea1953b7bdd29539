"""A simulator executable as a child process, spoken to in binary messages over its standard input and output.

Both directions use the same frame: one byte operation, the payload's length as 32 bits little-endian, the payload.
The process answers every request with exactly one reply and leaves when its standard input ends. What it prints on
standard error is kept for error messages.
"""

from __future__ import annotations

import contextlib
import struct
import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType

from tritape.base.errors import TritapeError

HEADER = struct.Struct("<BI")  # operation, payload bytes
_PATIENCE = 5.0  # seconds that a process gets to leave after its input ended


class Process:
    """Context manager around one running simulator.

        with Process(build_model(...)) as simulator:
            op, reply = simulator.call(1, b"...")

    `command` is the executable, or a list with its arguments. Raises `TritapeError`, with the end of what it printed,
    when the process cannot start, dies, or answers with less than a whole message.
    """

    def __init__(self, command: Path | Sequence[str | Path]) -> None:
        arguments = [str(part) for part in ([command] if isinstance(command, Path) else command)]
        self._name = arguments[0]
        self._stderr = tempfile.TemporaryFile()  # noqa: SIM115 - lives as long as the process
        try:
            self._child = subprocess.Popen(
                arguments, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self._stderr
            )
        except OSError as error:
            self._stderr.close()
            raise TritapeError(f"simulator {self._name} must be an executable, not {error.strerror!r}") from error

    def call(self, op: int, payload: bytes = b"") -> tuple[int, bytes]:
        """Send one request, wait for its reply: (operation, payload). `op` is 0..255."""
        child = self._child
        assert child.stdin is not None
        assert child.stdout is not None
        try:
            child.stdin.write(HEADER.pack(op, len(payload)) + payload)
            child.stdin.flush()
        except (OSError, ValueError) as error:
            raise self._died(op) from error
        header = child.stdout.read(HEADER.size)
        if len(header) < HEADER.size:
            raise self._died(op)
        answer, length = HEADER.unpack(header)
        body = child.stdout.read(length)
        if len(body) < length:
            raise self._died(op)
        return answer, body

    def close(self, *, by_force: bool = True) -> None:
        """End the process: politely by ending its input, after `_PATIENCE` by force unless told that it still writes a
        file. May be called twice."""
        if self._stderr.closed:
            return
        assert self._child.stdin is not None
        assert self._child.stdout is not None
        with contextlib.suppress(OSError):
            self._child.stdin.close()
        try:
            self._child.wait(_PATIENCE if by_force else None)
        except subprocess.TimeoutExpired:
            self._child.kill()
            self._child.wait()
        self._child.stdout.close()
        self._stderr.close()

    def _died(self, op: int) -> TritapeError:
        if self._stderr.closed:
            return TritapeError(f"simulator {self._name} must be running, not closed")
        try:
            status = str(self._child.wait(_PATIENCE))
        except subprocess.TimeoutExpired:
            status = "none yet"
        self._stderr.seek(0)
        tail = self._stderr.read().decode(errors="replace").strip().splitlines()[-10:]
        said = "\n".join(tail) or "(nothing on standard error)"
        return TritapeError(
            f"simulator {self._name} must answer operation {op}, not end (exit status {status}); it said:\n{said}"
        )

    def __enter__(self) -> Process:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
