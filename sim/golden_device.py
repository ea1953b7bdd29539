"""A device without gates: the host protocol in front of the model's integers, with a clock that the cycle model drives."""

from __future__ import annotations

import struct
import time
from dataclasses import dataclass

import numpy as np

from tritape.host import frames, protocol
from tritape.host.cpu import CPUModel, Place
from tritape.host.protocol import HEADER, REPLY_HEADER, Command
from tritape.hw.config import Config
from tritape.hw.counters import COUNTERS
from tritape.hw.link.commands import IDLE, REPLY, identity
from tritape.model import arith
from tritape.model.quantised import QuantisedModel
from tritape.model.tape.assembler import image

_RING = 256
_ENTRY = struct.Struct("<HB")


@dataclass(frozen=True)
class Times:
    """Seconds of a step, of a command and its reply beside their bytes, and of a byte either way."""

    step_s: float = 0.0
    exchange_s: float = 0.0
    byte_s: float = 0.0


class GoldenDevice:
    """A `Transport` that answers as an accelerator with several slots and this model's tape does.

    Every token is made by `host.cpu.CPUModel`, which equals the golden model, so text comes a thousand times sooner
    than from RTL.
    `now` is a clock for the host: what steps and the link take by `times`, and the time that this thread computed
    between two calls: the host's own, drafts included, or with `host` False only what is passed to `spend`. `steps` counts.
    `fail_at`: the step from which on it answers nothing, as a cable that is pulled; None: never.

    Not there: what a noisy wire needs, logits, and faults of a tape.
    """

    def __init__(self, config: Config, model: QuantisedModel, times: Times | None = None, *, host: bool = True) -> None:
        self._config, self._times, self._host = config, times or Times(), host
        self._model = CPUModel(model)
        self._model.reset()
        self._zero = self._model.place()
        self._shape = model.config
        self._memory = bytearray(image(model, config.groups, config.max_rows, config.engines, config.weight_code))
        count = config.batch
        self._places: list[Place] = [self._zero.copy() for _ in range(count)]
        self._inverse = [0] * count
        self._chosen = [0] * count
        self._selected = 0
        self._ring: list[list[tuple[int, int]]] = [[(0, 0)] * count for _ in range(_RING)]
        self._tokens: list[list[int]] = [[0] * count for _ in range(_RING)]
        self._position = self._known = self._limit = self._going = 0
        self._running = self._booted = False
        self.steps = 0
        self.fail_at: int | None = None
        self._command = b""
        self._arrived = 0.0
        self._waited = False  # whether the command had to wait for a step
        self._host_s = self._device_s = 0.0  # where both stand
        self._mark = time.thread_time()

    def now(self) -> float:
        """The host's time."""
        self._computed()
        return self._host_s

    def spend(self, seconds: float) -> None:
        """The host was busy for so long."""
        self._host_s += seconds

    def _computed(self) -> None:
        now = time.thread_time()
        if self._host:
            self._host_s += now - self._mark
        self._mark = now

    def write(self, data: bytes) -> None:
        """Take a command."""
        self._computed()
        self._command = data
        self._host_s += len(data) * self._times.byte_s
        self._arrived = self._host_s + self._times.exchange_s / 2
        self._mark = time.thread_time()

    def read(self, timeout_s: float) -> bytes:
        """Its reply."""
        self._computed()
        command, self._command = self._command, b""
        if not command or (self.fail_at is not None and self.steps >= self.fail_at):
            return b""
        content = frames.decode(command.strip(b"\0"))
        assert content is not None, "the wire is a good one"
        reply = frames.encode(self._obey(content))
        done = max(self._device_s if self._waited else self._arrived, self._arrived)
        self._host_s = max(self._host_s, done + len(reply) * self._times.byte_s + self._times.exchange_s / 2)
        self._mark = time.thread_time()
        return reply

    def discard(self) -> None:
        """Nothing has come that was not asked for."""

    def close(self) -> None:
        """Nothing to give back."""

    def place(self, data: bytes) -> None:
        """Write the memory from its beginning."""
        self._memory[: len(data)] = data

    def _obey(self, content: bytes) -> bytes:
        kind, sequence, argument, count = HEADER.unpack_from(content)
        self._waited = False
        if kind >= IDLE:
            self._run(None)
        method = getattr(self, f"_{Command(kind).name.lower()}")
        result = method(argument, count, content[HEADER.size :])
        argument, data = (argument, result) if isinstance(result, bytes) else result
        flags = self._running << 5 | self._booted << 6
        return REPLY_HEADER.pack(kind | REPLY, sequence, argument, 0, flags) + data

    def _run(self, until: int | None) -> None:
        """Run to a position, at least, or to the limit; what is over by the time of the command is run too."""
        while self._running:
            ends = self._device_s + self._times.step_s
            if until is not None and (self._position - until) % _RING < _RING // 2 and ends > self._arrived:
                return
            self._waited |= ends > self._arrived
            self._device_s = ends
            self._step()
            self._running = (self._position + 1) % _RING != self._limit

    def _step(self) -> None:
        self.steps += 1
        count, at = self._config.batch, self._position % _RING
        if at == self._known:
            entries = [(0, 9 if self._going >> slot & 1 else 0) for slot in range(count)]
            self._known = (self._known + 1) % _RING
        else:
            entries = self._ring[at]
        before = self._places.copy()
        first = next((slot for slot in range(count) if entries[slot][1] & 1 and not entries[slot][1] & 4), 0)
        for slot in ((first + number) % count for number in range(count)):
            token, flags = entries[slot]
            if not flags & 1:
                continue
            start = self._zero if flags & 2 else self._places[slot - 1] if flags & 4 else before[slot]
            place = start.copy()
            place[-1] = before[slot][-1]
            self._model.inverse(self._inverse[slot])
            self._model.go_back(place)
            self._chosen[slot] = self._model.feed([self._chosen[slot] if flags & 8 else token])
            self._places[slot] = self._model.place()
        self._position = (self._position + 1) % _RING
        self._tokens[self._position] = self._chosen.copy()

    def _identify(self, argument: int, count: int, data: bytes) -> bytes:
        self._running = False
        return identity(self._config, len(self._memory) // self._config.word_bytes + 64)

    def _poll(self, argument: int, count: int, data: bytes) -> bytes:
        if self._running:
            self._run(self._position)  # up to the limit of before, as far as it came by now
        place, limit, self._going = argument & 0xFF, argument >> 8 & 0xFF, argument >> 16
        if not self._running:
            self._device_s = max(self._device_s, self._arrived)
        self._limit = limit
        self._running = (self._position + 1) % _RING != limit
        slots = self._config.batch
        self._run(place if count else self._position)
        there = min((self._position - place) % _RING + 1, count // slots)
        if (self._position - place) % _RING >= _RING // 2:
            there = 0
        rows = [self._tokens[(place + number) % _RING] for number in range(there)]
        return b"".join(struct.pack(f"<{slots}H", *row) for row in rows)

    def _stop(self, argument: int, count: int, data: bytes) -> bytes:
        self._running = False
        return b""

    def _counters(self, argument: int, count: int, data: bytes) -> bytes:
        cycles = {"tokens": self.steps}
        return struct.pack(f"<{count}I", *[cycles.get(name, 0) for name in (*COUNTERS, "")][argument:][:count])

    def _restart(self, argument: int, count: int, data: bytes) -> bytes:
        self._running = self._booted = False
        return b""

    def _write(self, argument: int, count: int, data: bytes) -> bytes:
        start = argument * self._config.word_bytes
        self._memory[start : start + len(data)] = data
        return b""

    def _read(self, argument: int, count: int, data: bytes) -> bytes:
        word = self._config.word_bytes
        return bytes(self._memory[argument * word : (argument + count) * word])

    def _check(self, argument: int, count: int, data: bytes) -> tuple[int, bytes]:
        return protocol.check_sum(self._read(argument, count, b"")), b""

    def _boot(self, argument: int, count: int, data: bytes) -> bytes:
        self._booted = True
        return b""

    def _slot(self, argument: int, count: int, data: bytes) -> bytes:
        self._selected = argument
        return b""

    def _seed(self, argument: int, count: int, data: bytes) -> bytes:
        self._places[self._selected][-1] = argument or arith.XORSHIFT_DEFAULT
        return b""

    def _temperature(self, argument: int, count: int, data: bytes) -> bytes:
        self._inverse[self._selected] = argument
        return b""

    def _load(self, argument: int, count: int, data: bytes) -> bytes:
        self._position = self._known = argument & 0xFF
        slots = self._config.batch
        entries = list(_ENTRY.iter_unpack(data))
        for start in range(0, count, slots):
            self._ring[self._known] = entries[start : start + slots]
            self._known = (self._known + 1) % _RING
        return b""

    def _read_state(self, argument: int, count: int, data: bytes) -> bytes:
        values = self._elements()[argument : argument + count].astype("<i4")
        return values.view(np.uint8).reshape(-1, 4)[:, :3].tobytes()

    def _write_state(self, argument: int, count: int, data: bytes) -> tuple[int, bytes]:
        raw = np.frombuffer(data, np.uint8).reshape(-1, 3).astype(np.int64)
        value = raw[:, 0] | raw[:, 1] << 8 | raw[:, 2] << 16
        elements = self._elements()
        elements[argument : argument + count] = (value & 0x1FFFF) - (value & 0x20000)
        self._places[self._selected][:-1] = elements.reshape(-1)[: len(elements)]
        return argument + count, b""

    def _elements(self) -> np.ndarray:
        return self._places[self._selected][:-1].astype(np.int64)
