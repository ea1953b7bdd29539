"""One session of a host with the device of the fault campaign: what it does, what it must get, and a wire that can go wrong."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np

from tritape.base.errors import TritapeError
from tritape.host import frames, protocol
from tritape.host.device import Device
from tritape.host.protocol import DATA_BYTES, ErrorCode, Reply
from tritape.hw.config import Config
from tritape.model import arith
from tritape.model.arith import Ints
from tritape.model.checkpoint import random_checkpoint
from tritape.model.config import ModelConfig
from tritape.model.formats import quantise_model
from tritape.model.golden import IntegerModel
from tritape.model.quantised import QuantisedModel
from tritape.model.tape.assembler import image
from tritape.model.tape.layout import Opcode, Section
from tritape.model.tape.reader import read_header
from tritape.sim.faults.simulation import FaultySimulation

RETRY_S, SILENCE_S = 0.06, 1.0
"""The host's patience, in the simulator's seconds (`CYCLES_A_SECOND`)."""
_FIRST, _SECOND, _LAST = 7, 31, 5
_SEED = 77


class Killed(Exception):
    """The host's process ended here."""


def campaign_model() -> QuantisedModel:
    """A model of two layers, as small as every kind of section allows."""
    shape = ModelConfig(vocab_size=48, hidden_size=20, num_hidden_layers=2, intermediate_size=24)
    return quantise_model(random_checkpoint(shape, seed=3), ids=list(range(8)))


@dataclass
class Damage:
    """What a wire does to one byte of a direction. `change`: what comes in its place; None: the host is killed before it."""

    outward: bool
    place: int
    change: Callable[[int], bytes] | None


@dataclass
class Wire:
    """A `Transport` through the simulation that counts bytes, does its damage, and notes when trouble was first told."""

    simulation: FaultySimulation
    damage: Damage | None = None
    sent: int = 0
    received: int = 0
    told: int | None = None
    """Cycle of the first reply that told of a fault, damage or a refusal."""
    _open: bytes = b""

    def read(self, timeout_s: float) -> bytes:
        """See `Transport`."""
        data = self.simulation.read(timeout_s)
        *whole, self._open = (self._open + data).split(b"\0")
        for encoded in whole:
            content = frames.decode(encoded)
            reply = None if content is None else Reply.decode(content)
            if (
                reply
                and self.told is None
                and (reply.fault or reply.damaged or reply.status not in (0, ErrorCode.BUSY))
            ):
                self.told = self.simulation.cycle
        start, self.received = self.received, self.received + len(data)
        return self._pass(data, start, outward=False)

    def write(self, data: bytes) -> None:
        """See `Transport`."""
        start, self.sent = self.sent, self.sent + len(data)
        self.simulation.write(self._pass(data, start, outward=True))

    def _pass(self, data: bytes, start: int, *, outward: bool) -> bytes:
        damage = self.damage
        if damage is None or damage.outward != outward or not 0 <= (at := damage.place - start) < len(data):
            return data
        if damage.change is None:
            if outward:
                self.simulation.write(data[:at])
                self.simulation.read(0.001)
            raise Killed
        return data[:at] + damage.change(data[at]) + data[at + 1 :]

    def discard(self) -> None:
        """Nothing: what came has been read."""

    def close(self) -> None:
        """Nothing: the simulation goes on."""


@dataclass
class Result:
    """What a session came to. `accepted`: tokens that the host was given; `wrong`: one of them, a logit behind it, or a saved
    state differs from the golden model's; `error`: how it ended, if not well."""

    accepted: int = 0
    wrong: bool = False
    changed: bool = False
    """A logit differs, be it of a token that nobody was given."""
    error: str | None = None
    killed: bool = False
    resent: int = 0
    values: list[object] = field(default_factory=list)


class Session:
    """The session that every fault meets: load a piece of the tape, boot, feed, save, generate, restore, generate, read logits.

    Parameters: simulation; `piece` of the tape is what the host writes itself, the rest lies in memory already.
    Attributes: `image`: the tape; `bare`: memory before a session; `runs`: the tokens that are fed, in order.
    """

    def __init__(self, simulation: FaultySimulation, model: QuantisedModel) -> None:
        self.simulation, self.model = simulation, model
        config: Config = simulation.config
        self.geometry = config.geometry
        self.image = image(model, config.groups, config.max_rows, config.engines, config.weight_code)
        self.header = read_header(self.image, self.geometry)
        word = self.geometry.word_bytes
        self.piece = range(self.header.body_address * word, self.header.body_address * word + DATA_BYTES // word * word)
        self.bare = self.image[: self.piece.start] + bytes(len(self.piece)) + self.image[self.piece.stop :]
        self.temperature = 0.0 if config.serial else 0.8
        self._expect()

    def _expect(self) -> None:
        """What the golden model makes of it: the tokens and logits of every run, the state that is saved, the logits read."""
        golden, generator = IntegerModel(self.model), _SEED
        inverse = protocol.inverse_temperature(self.temperature, self.model.logit_fraction)
        self.runs: list[int] = []
        self.tokens: list[int] = []
        logits: list[Ints] = []

        def run(token: int) -> int:
            nonlocal generator
            self.runs.append(token)
            logits.append(golden.step(token))
            chosen, generator = arith.choose(logits[-1], inverse, generator)
            self.tokens.append(chosen)
            return chosen

        run(_FIRST)
        last = run(_SECOND)
        self.state = golden.state.copy()
        run(last)
        golden.state = self.state.copy()
        run(last)
        run(_LAST)
        self.last_logits = logits[-1]
        self.logits = np.concatenate(logits)

    def run(self, wire: Wire, loaded: Callable[[], None] = lambda: None) -> Result:
        """The session over a wire; `loaded` is called when the tape is in memory and not booted yet."""
        result = Result()
        self.simulation.clear_logits()
        device = None
        try:
            device = Device(wire, retry_s=RETRY_S, silence_s=SILENCE_S)
            self._steps(device, loaded, result)
        except Killed:
            result.killed = True
        except TritapeError as error:
            result.error = str(error)
        result.resent = device.link.resent if device is not None else 0
        seen = self.simulation.logits()
        expected = self.logits[: len(seen)]
        result.changed = not np.array_equal(seen[: len(expected)], expected)
        given = result.accepted * self.model.config.vocab_size
        result.wrong |= not np.array_equal(seen[:given], self.logits[:given])
        return result

    def _steps(self, device: Device, loaded: Callable[[], None], result: Result) -> None:
        word = self.geometry.word_bytes
        piece = self.image[self.piece.start : self.piece.stop]
        device.write_memory(self.piece.start // word, piece)
        if device.check_memory(self.piece.start // word, len(piece) // word) != protocol.check_sum(piece):
            raise TritapeError("memory must keep what is written, not change it")
        loaded()
        device.boot()
        device.settings(self.temperature, _SEED)

        def accept(token: int) -> None:
            result.wrong |= token != self.tokens[result.accepted]
            result.accepted += 1

        accept(device.feed([_FIRST]))
        accept(device.feed([_SECOND]))
        state = device.save_state()
        result.wrong |= self._differs(state)
        for token in device.generate_tokens([], 1):
            accept(token)
        device.restore_state(state)
        for token in device.generate_tokens([], 1):
            accept(token)
        got = device.logits([_LAST])
        result.wrong |= not np.array_equal(got, self.last_logits)
        result.accepted += 1

    def _differs(self, state: bytes) -> bool:
        """Whether a saved state's elements are not the golden model's."""
        data = np.frombuffer(state[-self._state_bytes() :], np.uint8).reshape(-1, 3).astype(np.int64)
        value = data[:, 0] | data[:, 1] << 8 | data[:, 2] << 16
        value = (value & 0x1FFFF) - (value & 0x20000)
        return not np.array_equal(value, np.asarray(self.state).reshape(-1))

    def _state_bytes(self) -> int:
        return 3 * int(np.asarray(self.state).size)

    def recover(self, *, load: bool) -> tuple[bool, str]:
        """A new host opens the device, boots (with `load`, after having the tape checked and written) and feeds a token.
        Whether all was right, and what was wrong or had been left."""
        if not load:
            self.simulation.set_memory(self.image)
        self.simulation.clear_logits()
        try:
            device = Device(self.simulation, retry_s=RETRY_S, silence_s=SILENCE_S)
            if load:
                device.load_tape(self.image)
            else:
                device.boot()
            device.settings(self.temperature, _SEED)
            token = device.feed([_FIRST])
        except TritapeError as error:
            return False, str(error)
        vocabulary = self.model.config.vocab_size
        right = token == self.tokens[0] and np.array_equal(
            self.simulation.logits()[-vocabulary:], self.logits[:vocabulary]
        )
        return right, device.recovered or ("" if right else "the token or a logit is wrong")

    def parts(self) -> dict[str, list[range]]:
        """Bytes of the image that the session's tokens read, by what they are."""
        word, header = self.geometry.word_bytes, self.header
        found: dict[str, list[range]] = {"header": [], "payload": [], "CRC": [], "embedding": [], "HEADER": []}
        found["HEADER"].append(range(self.geometry.boot_words * word))
        for start, words in (
            (header.prologue_address, header.prologue_words),
            (header.body_address, header.body_words),
        ):
            at = start
            while at < start + words:
                section = Section.decode(self.image[at * word :][:32])
                first, payload = at * word, (at + self.geometry.header_words) * word
                end = payload + section.payload * word
                found["header"].append(range(first, payload))
                if section.payload and section.opcode != Opcode.HEADER:
                    found["payload"].append(range(payload, end))
                found["CRC"].append(range(end, end + word))
                at += self.geometry.section_words(section)
        for token in sorted(set(self.runs)):
            row = (header.embedding_address + token * header.row_words) * word
            found["embedding"].append(range(row, row + header.row_words * word))
        return found

    def first_reader(self, place: int) -> int:
        """Number of the first run that reads byte `place`; 0 where every run does, or BOOT."""
        start = self.header.embedding_address * self.geometry.word_bytes
        if place < start:
            return 0
        return self.runs.index((place - start) // (self.header.row_words * self.geometry.word_bytes))
