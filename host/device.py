"""One host class for silicon and simulation: it speaks the protocol over any transport that moves bytes."""

from __future__ import annotations

import random
import struct
import zlib
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np

from tritape.base.errors import TritapeError
from tritape.host import protocol
from tritape.host.jobs import Job, run_jobs
from tritape.host.limits import check_geometry
from tritape.host.link import RETRY_S, Link
from tritape.host.protocol import DATA_BYTES, Command, Reply
from tritape.host.slots import Slots, generator_after, prompt_steps
from tritape.host.state import SavedState
from tritape.host.transport import Transport
from tritape.hw.accelerator import COUNTERS, MEMORY_ERRORS
from tritape.hw.link.token_runner import WINDOW
from tritape.model.arith import Ints
from tritape.model.tape.layout import HeaderPayload, read_tape
from tritape.model.tape.reader import read_header
from tritape.model.tokenizer import TextCodec, Tokenizer, load_tokenizer

Progress = Callable[[int, int], None]

FEED_TOKENS = DATA_BYTES // 2
"""Most tokens of one command."""
_ELEMENT = 3  # bytes of a logit or an element of the state
_CHECK_BYTES = 1 << 16  # memory that one CHECK covers


class Device:
    """A tritape accelerator behind a transport.

        with Device.open("/dev/ttyUSB0", model="model.tape") as device:
            for piece in device.generate("Once upon a time", 100):
                print(piece, end="")

    With several slots (`identity.batch`) prompts run as many tokens at a time, and `generate_many` as many texts; every result
    is what one slot gives, sampling included.

    One command is under way at a time; an answer that is lost or damaged is asked for again (`Link`). Whoever opens a device
    ends what an earlier host left running; the tape and the recurrent state stay. Methods raise TritapeError when the device
    refuses, with the cure, or when it or its port is gone.

    Attributes: `identity` (`protocol.Identity`); `header`: shape of the tape that this object loaded, else None; `booted`:
    whether a tape runs; `link`: the repetitions it took; `slots`: where there are several, else None; `position` in the
    sequence of steps, modulo 256 in the ring, of the next token to be read or loaded.
    """

    def __init__(self, transport: Transport, *, retry_s: float = RETRY_S) -> None:
        self.link = Link(transport, retry_s)
        self.header: HeaderPayload | None = None
        self.tokenizer: TextCodec | None = None
        self._fresh = True
        self._chosen: int | None = None  # what the head chose last, if all that it chose has been read
        self._restored: int | None = None  # the same of a restored state, which the device does not know
        self.position = 0
        self._limit = 0  # up to where the device may run
        self._ahead: list[int] = []  # read, and not yet given to anyone
        self._tape_crc = 0
        self._piece = DATA_BYTES  # bytes of memory that one command carries
        reply = self.link.open()
        self.identity = protocol.Identity.decode(reply.data)
        self.booted = reply.booted
        self.slots = Slots(self.link, self.identity.batch) if self.identity.batch > 1 else None
        self._slot = 0  # that has the sequence's state
        self._sampler = 0, 0  # of several slots: inverse temperature, seed; tokens run since, but for those that came
        self._fed, self._behind = 0, 0  # behind this position

    @classmethod
    def open(
        cls, port: str, *, baud: int | None = None, model: str | Path | None = None, retry_s: float | None = None
    ) -> Device:
        """A device on a serial port, or beside this processor (`uio:NAME`). With `model`, a tape file or a checkpoint folder,
        its tape is loaded, unless it is there already, and its tokenizer attached."""
        from tritape.host.transport.port import open_port
        from tritape.host.transport.serial import DEFAULT_BAUD

        baud = baud or DEFAULT_BAUD
        transport = open_port(port, baud)
        try:
            device = cls(
                transport, retry_s=retry_s or RETRY_S + 5000 / baud
            )  # a command and its answer take 5,000 bits
            if model is not None:
                device.load_model(model)
        except BaseException:
            transport.close()
            raise
        return device

    def __enter__(self) -> Device:
        return self

    def __exit__(self, kind: type[BaseException] | None, value: BaseException | None, tb: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        """Close the transport. The device keeps its tape and state."""
        self.link.close()

    # The tape.

    def load_model(self, model: str | Path, progress: Progress | None = None) -> None:
        """`load_tape` of a tape file, or of a checkpoint folder packed for this device; attaches the tokenizer."""
        path = Path(model)
        if path.is_dir():
            from tritape.model.checkpoint import load_checkpoint
            from tritape.model.formats import quantise_model
            from tritape.model.tape.assembler import image

            checkpoint = load_checkpoint(path)
            identity = self.identity
            self.load_tape(
                image(quantise_model(checkpoint), identity.groups, identity.max_rows, identity.engines), progress
            )
            self.tokenizer = load_tokenizer(checkpoint)
        else:
            self.load_tape(path, progress)

    def load_tape(self, tape: bytes | Path, progress: Progress | None = None, *, verify: bool = True) -> None:
        """Write a tape and boot it; `progress(bytes done, bytes)`.

        `tape` is a tape file, or a memory image with the device's G. With `verify`, what is in memory already is left there,
        and what was written is checked.
        """
        groups = self.identity.geometry.word_bytes
        if isinstance(tape, Path):
            file = read_tape(tape)
            check_geometry(self.identity, file.geometry, str(tape))
            data, source = bytes(file.image), str(tape)
            if file.tokenizer:
                self.tokenizer = Tokenizer.from_bytes(file.tokenizer, source)
        else:
            data, source = tape, "tape"
        room = self.identity.memory_words * groups
        if len(data) > room:
            raise TritapeError(
                f"{source}: image must have at most {room} bytes, not {len(data)}; "
                "choose a smaller model or a board with more memory"
            )
        self.header = read_header(data, self.identity.geometry, source)
        self._tape_crc = zlib.crc32(data)
        if verify:
            self.link.place(data)
        piece = max(_CHECK_BYTES // groups, 1) * groups
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
        if reply.fault:
            raise TritapeError(f"{protocol.FAULTS.get(reply.fault, 'fault code must be known')} (fault {reply.fault})")
        self.booted = reply.booted
        self.reset()

    # Memory. Every access ends the booted tape: boot it again afterwards.

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
            out += self.link.call(Command.READ, address, count).data
            address, words = address + count, words - count
        return out

    def check_memory(self, address: int, words: int) -> int:
        """CRC-32 of words, computed in the device."""
        self.booted = False
        return self.link.call(Command.CHECK, address, words).argument

    def _same(self, address: int, data: bytes) -> bool:
        return self.check_memory(address, len(data) // self.identity.geometry.word_bytes) == zlib.crc32(data)

    # Tokens.

    def settings(self, temperature: float = 0.0, seed: int = 0) -> None:
        """Set the sampler: temperature 0 is greedy; seed u32 (0: its default). Needs a booted tape."""
        inverse = self.inverse_temperature(temperature)
        if not 0 <= seed < 1 << 32:
            raise TritapeError(f"seed must be from 0 to 4294967295, not {seed!r}; choose another")
        if self.slots is not None:
            self._sampler, self._fed, self._behind = (inverse, seed), 0, self.position
            self.slots.sampler(self._slot, inverse, seed)
            return
        self.link.call(Command.TEMPERATURE, inverse)
        self.link.call(Command.SEED, seed)

    def inverse_temperature(self, temperature: float) -> int:
        """The sampler's setting for a temperature (`protocol.inverse_temperature`) and the loaded tape."""
        if self.header is None:
            raise TritapeError("a tape must be loaded before the temperature is set, not none; load one first")
        return protocol.inverse_temperature(temperature, self.header.logit_fraction)

    def reset(self) -> None:
        """The next token starts a sequence."""
        self._fresh, self._chosen, self._restored, self._ahead = True, None, None, []

    def feed(self, tokens: Sequence[int]) -> int:
        """Run tokens, at least one; the token that the head chooses after the last."""
        (token,) = self._run(tokens, 1)
        return token

    def generate_tokens(self, prompt: Sequence[int], count: int) -> Iterator[int]:
        """Run a prompt, then generate; yields `count` tokens as they come. An empty prompt goes on from the token before.

        Leaving the iterator early stops the device. What it had run ahead by then, at most `WINDOW` tokens, comes first when
        generation goes on; a prompt or `reset` drops it.
        """
        return self._run(prompt, count)

    def generate(self, text: str, count: int, temperature: float = 0.0, seed: int | None = None) -> Iterator[str]:
        """Start a sequence with `text` and yield the pieces of the text that follows, of `count` tokens. Needs a tokenizer."""
        if self.tokenizer is None:
            raise TritapeError("device must have a tokenizer to take text, not none; open it with model=...")
        prompt = self.tokenizer.encode(text)
        if not prompt:
            raise TritapeError("prompt must have at least one token, not none; give some text")
        self.settings(temperature, random.getrandbits(32) if seed is None else seed)
        self.reset()
        pieces = self.tokenizer.stream()
        for token in self.generate_tokens(prompt, count):
            if piece := pieces.push(token):
                yield piece
        if piece := pieces.finish():
            yield piece

    def generate_many(
        self, texts: Sequence[str], count: int, temperature: float = 0.0, seed: int | None = None
    ) -> list[str]:
        """The texts that follow each of `texts`, of `count` tokens; text number i is sampled with `seed` + i (None: any).

        As many go on together as there are slots. Ends the sequence and the settings of before. Needs a tokenizer.
        """
        if self.tokenizer is None:
            raise TritapeError("device must have a tokenizer to take text, not none; open it with model=...")
        first = random.getrandbits(32) if seed is None else seed
        jobs = [
            Job(self.tokenizer.encode(text), count, temperature, (first + number) % (1 << 32))
            for number, text in enumerate(texts)
        ]
        for _ in self.run_jobs(jobs):
            pass
        return [self.tokenizer.decode(job.tokens) for job in jobs]

    def run_jobs(self, jobs: Sequence[Job]) -> Iterator[tuple[int, int]]:
        """Run sequences of tokens, as many together as there are slots: (number of the job, token) as they come, which
        `Job.tokens` collects. Each has its own prompt, length, sampler and state. Ends the sequence and the settings of before.
        """
        return run_jobs(self, jobs)

    def logits(self, tokens: Sequence[int]) -> Ints:
        """Run tokens, at least one; the logits after the last, as integers of 2^-(logit fraction) each."""
        if len(tokens) > 1:
            self.feed(tokens[:-1])
        self._load(tokens[-1:], logits=True)
        self._limit += 1
        (reply, _), out = self._poll(0), b""
        while reply.running:
            reply = self.link.call(Command.LOGITS, 0, DATA_BYTES // _ELEMENT)
            out += reply.data
        for _ in self._results(1):
            pass
        self.stop()  # or the next token would wait for its logits to be fetched
        return _elements(out)

    def stop(self) -> None:
        """End what runs, after the token under way."""
        self.link.call(Command.STOP)

    def _load(self, tokens: Sequence[int], *, logits: bool = False) -> None:
        """Put as many tokens as one command carries at most into the ring, to be run by the next POLL."""
        self.check_tokens(tokens)
        if self.slots is None:
            argument = self.position & 0xFF | self._fresh << 16 | logits << 17
            self.link.call(Command.LOAD, argument, len(tokens), struct.pack(f"<{len(tokens)}H", *tokens))
            self.position += len(tokens)
        else:
            self._load_steps(self.slots, tokens, logits)
        self._limit, self._ahead = self.position, []
        self._fresh, self._chosen, self._restored = False, None, None

    def _load_steps(self, slots: Slots, tokens: Sequence[int], logits: bool) -> None:
        """`_load` over all slots: the state goes from token to token through them, and ends on another."""
        steps, self._slot = prompt_steps(tokens, self._slot, slots.count, fresh=self._fresh)
        inverse, seed = self._sampler
        # One slot draws for every token of a sequence: this one as if it had, but for those that it is about to run.
        self._fed += max(self.position - self._behind, 0) + len(tokens)
        if inverse:
            own = sum(step[self._slot] is not None for step in steps)
            seed = generator_after(seed, (self._fed - own) * self._loaded().vocab)
        slots.sampler(self._slot, inverse, seed)
        if logits:
            slots.choose(self._slot)
        slots.load(self.position, steps, logits=logits)
        self.position += len(steps)
        self._behind = self.position + 1  # the first token to come is the last one's, which counts already

    def check_tokens(self, tokens: Sequence[int]) -> None:
        """Raise TritapeError for a token outside the tape's vocabulary."""
        vocabulary = self.header.vocab if self.header else 1 << 16
        if any(not 0 <= token < vocabulary for token in tokens):
            raise TritapeError(
                "token must be within the tape's vocabulary, not outside; use the tokenizer of this tape"
            )

    def _run(self, tokens: Sequence[int], results: int) -> Iterator[int]:
        if results < 1:
            return
        if not tokens:
            if self._fresh:
                raise TritapeError("a sequence must begin with a token, not with none; feed a prompt first")
            while self._ahead and results:
                results -= 1
                yield self._ahead.pop(0)
            if results and self._restored is not None:
                tokens = [self._restored]
        most = FEED_TOKENS if self.slots is None else self.slots.most_steps * self.slots.count
        while len(tokens) > most:
            self._load(tokens[:most])
            for _ in self._results(1):
                self.position -= 1  # the next prompt token takes its place
            tokens = tokens[most:]
        if tokens:
            self._load(tokens)
        yield from self._results(results)

    def _poll(self, count: int) -> tuple[Reply, list[int]]:
        """Let the device run so many tokens further; those that it has, at least one unless it stops. 0: no waiting."""
        self._limit = max(self._limit, self.position + min(count, WINDOW))
        if self.slots is not None:
            reply, rows = self.slots.poll(self.position, self._limit, [self._slot], count)
            return reply, [row[self._slot] for row in rows]
        argument = self.position & 0xFF | (self._limit & 0xFF) << 8
        reply = self.link.call(Command.POLL, argument, min(count, DATA_BYTES // 2))
        return reply, [token for (token,) in struct.iter_unpack("<H", reply.data)]

    def _results(self, count: int) -> Iterator[int]:
        """`count` tokens as they come."""
        done = False
        try:
            while count:
                reply, tokens = self._poll(count)
                if not tokens and not reply.running:
                    raise TritapeError(protocol.STOPPED)
                for token in tokens:
                    self.position, self._chosen, count = self.position + 1, token, count - 1
                    done = count == 0
                    yield token
            done = True
        except TritapeError:
            done = True  # it has stopped, or is gone
            raise
        finally:
            if not done:
                self.stop()

    # Everything else.

    def counters(self) -> dict[str, int]:
        """The fabric's counters by name (`tritape.hw.accelerator.COUNTERS`)."""
        data = self.link.call(Command.COUNTERS, 0, len(COUNTERS)).data
        return dict(zip(COUNTERS, struct.unpack(f"<{len(COUNTERS)}I", data), strict=True))

    def memory_errors(self) -> int:
        """Error responses of the memory since reset, at most 65,535; 0 too on a board whose memory tells of none."""
        return int.from_bytes(self.link.call(Command.COUNTERS, MEMORY_ERRORS, 1).data, "little")

    def save_state(self) -> bytes:
        """The recurrent state of the sequence, a few kilobytes: everything that the model knows of the text so far."""
        self._loaded()
        # What the device ran ahead, or was to run, is read first, for the state is behind it.
        while self.position < self._limit:
            self._ahead += self._results(self._limit - self.position)
        last = self._restored if self._chosen is None else self._chosen
        return self.slot_state(self._slot, last, self._ahead, fresh=self._fresh).pack()

    def restore_state(self, state: bytes) -> None:
        """Go on from a saved state. Raises TritapeError for bytes that are not one, are damaged, or are another model's."""
        saved = self.put_state(self._slot, state)
        self._fresh, self._chosen, self._limit = saved.fresh, None, self.position
        self._ahead, self._restored = list(saved.ahead), saved.last

    def slot_state(self, slot: int, last: int | None, ahead: Sequence[int] = (), *, fresh: bool = False) -> SavedState:
        """What a slot's memory holds (slot 0 where there is one), with what the host knows of the sequence."""
        header = self._loaded()
        if self.slots is not None:
            self.slots.choose(slot)
        total = self._state_elements(header.hidden, header.layers)
        elements = b""
        while len(elements) < total * _ELEMENT:
            at = len(elements) // _ELEMENT
            elements += self.link.call(Command.READ_STATE, at, min(total - at, DATA_BYTES // _ELEMENT)).data
        return SavedState(self._tape_crc, header.hidden, header.layers, elements, fresh, last, tuple(ahead))

    def put_state(self, slot: int, state: bytes) -> SavedState:
        """Store a saved state's elements in a slot's memory. Raises as `restore_state`."""
        header = self._loaded()
        size = self._state_elements(header.hidden, header.layers) * _ELEMENT
        saved = SavedState.unpack(state, (header.hidden, header.layers), self._tape_crc, size)
        if self.slots is not None:
            self.slots.choose(slot)
        piece = DATA_BYTES // _ELEMENT * _ELEMENT
        for start in range(0, size, piece):
            part = saved.elements[start : start + piece]
            self.link.call(Command.WRITE_STATE, start // _ELEMENT, len(part) // _ELEMENT, part)
        return saved

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

    def _state_elements(self, hidden: int, layers: int) -> int:
        """Addresses of the state: layer, then element of a lane, then lane (counted to a power of two)."""
        geometry = self.identity.geometry
        return layers * geometry.lane(hidden) << (geometry.engines - 1).bit_length()

    def _loaded(self) -> HeaderPayload:
        if self.header is None or not self.booted:
            raise TritapeError("a tape must be booted before its state is touched, not none; load one first")
        return self.header


def _elements(data: bytes) -> Ints:
    """Numbers of 18 bits, as they travel: three bytes each, low first, sign above."""
    raw = np.frombuffer(data, np.uint8).reshape(-1, _ELEMENT).astype(np.int64)
    value = raw[:, 0] | raw[:, 1] << 8 | raw[:, 2] << 16
    return (value & 0x1FFFF) - (value & 0x20000)
