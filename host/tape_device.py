"""The lower half of a device: its memory, the tape in it, counters and a self-test."""

from __future__ import annotations

import random
import struct
from collections.abc import Callable
from typing import Any

from tritape.base.errors import TritapeError
from tritape.host import protocol
from tritape.host.link import RETRY_S, SILENCE_S, Link
from tritape.host.protocol import DATA_BYTES, Command, ErrorCode, Reply
from tritape.host.transport import Transport
from tritape.hw.counters import COUNTERS, MEMORY_ERRORS
from tritape.hw.tape.header import Fault
from tritape.model.tape.layout import HeaderPayload, section_names
from tritape.model.tape.reader import read_header

Progress = Callable[[int, int], None]

_OF_TOKENS = (Command.POLL, Command.LOGITS, Command.LOAD, Command.READ_STATE, Command.WRITE_STATE)
_CHECK_BYTES = 1 << 16  # memory that one CHECK covers
_FRAME_BITS = 10 * (DATA_BYTES + 36)  # of a WRITE with its reply: heads, CRCs and zeros of both
_TURN_S = 1e-3  # from a reply to the next command, over USB


def loading_seconds(size: int, baud: int) -> float:
    """About how long `TapeDevice.load_tape` takes for `size` bytes over a UART of `baud` bits a second."""
    return -(-size // DATA_BYTES) * (_FRAME_BITS / baud + _TURN_S)


class TapeDevice:
    """An accelerator as a memory that holds a tape: what `Device` needs before it runs a token.

    Opening a device ends what an earlier host left running; the tape and the recurrent state stay. Every access to the
    memory ends the booted tape: boot it again afterwards.

    Attributes: `identity` (`protocol.Identity`); `header`: shape of the tape that this object loaded, else None; `booted`:
    whether a tape runs; `link`: counts the repetitions it took; `recovered`: what an earlier host left, where the device had to
    be restarted for this session, else None; `allow_errors`: go on with tokens although a section's CRC was wrong or the
    memory told of an error (a fault stops in any case).
    """

    allow_errors = False

    def __init__(self, transport: Transport, *, retry_s: float = RETRY_S, silence_s: float = SILENCE_S) -> None:
        self.link = Link(transport, retry_s, silence_s)
        self.recovered: str | None = None
        self.header: HeaderPayload | None = None
        self._tape_crc = 0
        self._piece = DATA_BYTES  # bytes of memory that one command carries
        reply = self.link.open()
        self.identity = protocol.Identity.decode(reply.data)
        self.booted = reply.booted
        if reply.fault or reply.damaged:
            self.recovered = self._trouble(reply)
            self.restart()
        self.link.judge = self._judge

    def restart(self) -> None:
        """Give up whatever the device does. Its memory stays; the tape must be booted again."""
        self.link.call(Command.RESTART)
        self.booted = False

    def _trouble(self, reply: Reply) -> str:
        """What a reply with a fault or damage is about: the section of the tape, and the fault."""
        counters = self.counters()
        number = counters["first_bad_section"]
        named = self.header is not None and (reply.fault or counters["crc_errors"])
        what = section_names(self.header).get(number, "") if named and self.header is not None else ""
        section = f"section {number}{what and f' ({what})'} of the tape"
        if reply.fault:
            return f"{section}: {protocol.FAULTS.get(Fault(reply.fault), '')} (fault {reply.fault})"
        if counters["crc_errors"]:
            return (
                f"{section}: CRC-32 must be right, not wrong in {counters['crc_errors']} sections; load the tape again"
            )
        return "memory must be read without an error, not with one; check the memory, then load the tape again"

    def _judge(self, reply: Reply) -> None:
        """Stop where a token may be wrong: at a fault, at damage, and at a device that was reset and answers all the same."""
        if reply.kind not in _OF_TOKENS:
            return
        if reply.fault or (reply.damaged and not self.allow_errors):
            raise TritapeError(self._trouble(reply))
        if not reply.booted:
            raise TritapeError(protocol.ERRORS[ErrorCode.NOT_BOOTED])

    def close(self) -> None:
        """Close the transport. The device keeps its tape and state."""
        self.link.close()

    def load_tape(
        self, data: bytes, progress: Progress | None = None, *, verify: bool = True, source: str = "tape"
    ) -> None:
        """Write a tape's memory image, packed for the device, and boot it; `progress(bytes done, bytes)`, first of all with 0.

        With `verify`, what is in memory already is left there, so a loading that was interrupted goes on, and what was written
        is checked. `source` is what errors name.
        """
        groups = self.identity.geometry.word_bytes
        room = self.identity.memory_words * groups
        if len(data) > room:
            raise TritapeError(
                f"{source}: image must have at most {room} bytes, not {len(data)}; "
                "choose a smaller model or a board with more memory"
            )
        self.header = read_header(data, self.identity.geometry, source)
        self._tape_crc = protocol.check_sum(data)
        if verify:
            self.link.place(data)
        piece = max(_CHECK_BYTES // groups, 1) * groups
        if progress is not None:
            progress(0, len(data))
        for start in range(0, len(data), piece):
            part = data[start : start + piece]
            if not (verify and self._same(start // groups, part)):
                self.write_memory(start // groups, part)
                if verify and not self._same(start // groups, part):
                    raise TritapeError(
                        f"memory must keep what is written, not change it (words {start // groups} to "
                        f"{(start + len(part)) // groups - 1}); lower the clock or try another board"
                    )
            if progress is not None:
                progress(start + len(part), len(data))
        self.boot()

    def boot(self) -> None:
        """Read the tape's header from memory; TritapeError when the bitstream cannot run it."""
        words = self.identity.geometry.boot_words
        try:
            self.header = read_header(self.read_memory(0, words), self.identity.geometry)
        except TritapeError:
            self.header = None  # BOOT says what is wrong with it
        reply = self.link.call(Command.BOOT)
        if reply.fault >= Fault.CHECK:  # the prologue is read at once
            raise TritapeError(self._trouble(reply))
        if reply.fault:
            raise TritapeError(
                f"{protocol.FAULTS.get(Fault(reply.fault), 'fault code must be known')} (fault {reply.fault})"
            )
        self.booted = reply.booted

    def write_memory(self, address: int, data: bytes) -> None:
        """Write whole words from a word address on."""
        groups = self.identity.geometry.word_bytes
        self.booted = False
        done = 0
        while done < len(data):
            size = max(self._piece // groups, 1) * groups
            part = data[done : done + size]
            resent = self.link.resent
            self.link.call(Command.WRITE, address + done // groups, len(part) // groups, part)
            done += len(part)
            # On a bad wire short frames get through more often; on a good one long ones are faster.
            if self.link.resent > resent + 1:
                self._piece = max(self._piece // 2, 32)
            elif self.link.resent == resent:
                self._piece = min(self._piece + 4, DATA_BYTES)

    def read_memory(self, address: int, words: int) -> bytes:
        """Read words from a word address on."""
        groups = self.identity.geometry.word_bytes
        self.booted = False
        out = b""
        while words:
            count = min(words, max(self._piece // groups, 1))
            data = self.link.call(Command.READ, address, count).data
            if len(data) != count * groups:
                raise TritapeError(protocol.ERRORS[ErrorCode.MEMORY])
            out += data
            address, words = address + count, words - count
        return out

    def check_memory(self, address: int, words: int) -> int:
        """`protocol.check_sum` of words, computed in the device."""
        self.booted = False
        return self.link.call(Command.CHECK, address, words).argument

    def _same(self, address: int, data: bytes) -> bool:
        return self.check_memory(address, len(data) // self.identity.geometry.word_bytes) == protocol.check_sum(data)

    def counters(self) -> dict[str, int]:
        """The fabric's counters by name (`tritape.hw.counters.COUNTERS`)."""
        data = self.link.call(Command.COUNTERS, 0, len(COUNTERS)).data
        if len(data) != 4 * len(COUNTERS):
            raise TritapeError(
                f"reply to COUNTERS must have {4 * len(COUNTERS)} bytes, not {len(data)}; program the board's own bitstream"
            )
        return dict(zip(COUNTERS, struct.unpack(f"<{len(COUNTERS)}I", data), strict=True))

    def memory_errors(self) -> int:
        """Error responses of the memory since reset, at most 65,535; 0 too on a board whose memory tells of none."""
        return int.from_bytes(self.link.call(Command.COUNTERS, MEMORY_ERRORS, 1).data, "little")

    def self_test(self) -> dict[str, Any]:
        """Try the link and the last of the memory's first 65,536 words: what was found. Boots the tape again, if one ran.

        Raises TritapeError at the first thing that is wrong.
        """
        booted, groups = self.booted, self.identity.geometry.word_bytes
        reply = self.link.open()
        if protocol.Identity.decode(reply.data) != self.identity:
            raise TritapeError("identity of the device must stay the same, not change; check the cable and its power")
        end = min(self.identity.memory_words, 1 << 16)
        words = min(end, 64)
        address = end - words
        kept = self.read_memory(address, words)
        patterns = (bytes(len(kept)), b"\xff" * len(kept), b"\x55\xaa" * len(kept), random.randbytes(len(kept)))
        for pattern in patterns:
            pattern = pattern[: len(kept)]
            self.write_memory(address, pattern)
            got = self.read_memory(address, words)
            if got != pattern:
                at = next(i for i, (a, b) in enumerate(zip(got, pattern, strict=True)) if a != b)
                raise TritapeError(
                    f"byte {at % groups} of memory word {address + at // groups} must be {pattern[at]}, not {got[at]}; "
                    "lower the clock or try another board"
                )
            if not self._same(address, pattern):
                raise TritapeError("CRC-32 in the device must be the host's, not another; program the board again")
        self.write_memory(address, kept)
        if booted:
            self.boot()
        return {"identity": True, "memory_words_tested": words, "memory": True, "repetitions": self.link.resent}
