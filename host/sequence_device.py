"""The middle of a device: tokens in and out of one sequence, and its recurrent state."""

from __future__ import annotations

import struct
from collections.abc import Iterator, Sequence

import numpy as np

from tritape.base.errors import TritapeError
from tritape.host import protocol
from tritape.host.draft import Draft, Guesser
from tritape.host.draft.adaptive import Pace
from tritape.host.link import RETRY_S, SILENCE_S
from tritape.host.protocol import DATA_BYTES, Command, Reply
from tritape.host.slots import Slots, Stream, generator_after, prompt_steps
from tritape.host.state import SavedState
from tritape.host.stepper import Stepper
from tritape.host.tape_device import TapeDevice
from tritape.host.track import DraftCounts, Track
from tritape.host.transport import Transport
from tritape.hw.link.token_runner import WINDOW
from tritape.model.arith import Ints
from tritape.model.tape.layout import HeaderPayload

FEED_TOKENS = DATA_BYTES // 2
"""Most tokens of one command."""
_ELEMENT = 3  # bytes of a logit or an element of the state


class SequenceDevice(TapeDevice):
    """A device that runs one sequence of tokens: sampler, prompt, generation, logits, and the state to save and put back.

    With several slots (`identity.batch`) a prompt runs as many tokens at a time; every result is what one slot gives,
    sampling included. `Device` adds text to it, and `jobs` many sequences at a time.

    Attributes: `slots`: where there are several, else None; `position` in the sequence of steps, modulo 256 in the ring, of
    the next token to be read or loaded; `draft`: that `speculate` set; `drafted`: what came of its guesses; `pace`: when it is
    asked.
    """

    def __init__(self, transport: Transport, *, retry_s: float = RETRY_S, silence_s: float = SILENCE_S) -> None:
        super().__init__(transport, retry_s=retry_s, silence_s=silence_s)
        self._fresh = True
        self._chosen: int | None = None  # what the head chose last, if all that it chose has been read
        self._restored: int | None = None  # the same of a restored state, which the device does not know
        self.position = 0
        self._limit = 0  # up to where the device may run
        self._ahead: list[int] = []  # read, and not yet given to anyone
        self.slots = Slots(self.link, self.identity.batch) if self.identity.batch > 1 else None
        self._slot = 0  # that has the sequence's state
        self._sampler = 0, 0  # of several slots: inverse temperature, seed; tokens run since, but for those that came
        self._fed, self._behind = 0, 0  # behind this position
        self.draft: Draft | None = None
        self._guesser: Guesser | None = None  # where it has followed the sequence from its beginning
        self.pace = Pace()
        self.drafted = DraftCounts()

    def boot(self) -> None:
        """Read the tape's header from memory and start a sequence; TritapeError when the bitstream cannot run it."""
        super().boot()
        if self.slots is not None:
            self.slots.doubt()
        self.reset()

    def settings(self, temperature: float = 0.0, seed: int = 0) -> None:
        """Set the sampler: temperature 0 is greedy; seed u32 (0: its default). Needs a booted tape."""
        inverse = self.inverse_temperature(temperature)
        if not 0 <= seed < 1 << 32:
            raise TritapeError(f"seed must be from 0 to 4294967295, not {seed!r}; choose another")
        if self.slots is not None:
            self._sampler, self._fed, self._behind = (inverse, seed), 0, self.position
            self._guesser = None
            self.slots.sampler(self._slot, inverse, seed)
            return
        self.link.call(Command.TEMPERATURE, inverse)
        self.link.call(Command.SEED, seed)

    def inverse_temperature(self, temperature: float) -> int:
        """The sampler's setting for a temperature (`protocol.inverse_temperature`) and the loaded tape."""
        if self.header is None:
            raise TritapeError("a tape must be loaded before the temperature is set, not none; load one first")
        return protocol.inverse_temperature(temperature, self.header.logit_fraction)

    def speculate(self, draft: Draft | None) -> None:
        """Let a draft guess tokens for `generate_tokens`, which verifies them where that is faster; None: no more. The tokens are
        the same. Raises TritapeError for a device with one slot."""
        if draft is not None and self.slots is None:
            raise TritapeError(
                "device must have several slots to verify guesses, not one; leave the draft out, or build it with --batch"
            )
        self.draft, self._guesser = draft, None
        self.pace = Pace(self.pace.clock, 0.0 if draft is None else draft.guess_s)
        self.drafted = DraftCounts()

    def reset(self) -> None:
        """The next token starts a sequence."""
        self._fresh, self._chosen, self._restored, self._ahead = True, None, None, []
        self._guesser = None

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
        logits = elements(out)
        if self.header is not None and len(logits) != self.header.vocab:  # another host ended the command
            raise TritapeError(protocol.STOPPED)
        return logits

    def stop(self) -> None:
        """End what runs, after the token under way."""
        self.link.call(Command.STOP)

    @property
    def vocabulary(self) -> int:
        """Tokens of the loaded tape."""
        return self._loaded().vocab

    def check_tokens(self, tokens: Sequence[int]) -> None:
        """Raise TritapeError for a token outside the tape's vocabulary."""
        vocabulary = self.header.vocab if self.header else 1 << 16
        if any(not 0 <= token < vocabulary for token in tokens):
            raise TritapeError(
                "token must be within the tape's vocabulary, not outside; use the tokenizer of this tape"
            )

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
        slots.forget()
        self._guesser = None
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

    def _run(self, tokens: Sequence[int], results: int) -> Iterator[int]:
        if results < 1:
            return
        if not tokens:
            if self._fresh:
                raise TritapeError("a sequence must begin with a token, not with none; feed a prompt first")
            if self.draft is not None:
                self._catch_up()
            while self._ahead and results:
                results -= 1
                yield self._ahead.pop(0)
            if self._restored is not None:
                tokens = [self._restored]
            elif self.draft is not None and self._chosen is not None:
                tokens = [self._chosen]
            if not results:
                return
            if self.draft is not None and not tokens:
                raise TritapeError(
                    "a sequence must have its first token before it goes on, not stop in a prompt; feed it again"
                )
        if self.draft is not None and self.slots is not None:
            yield from self._run_guessing(self.draft, self.slots, tokens, results)
            return
        most = FEED_TOKENS if self.slots is None else self.slots.most_steps * self.slots.count
        while len(tokens) > most:
            self._load(tokens[:most])
            for _ in self._results(1):
                self.position -= 1  # the next prompt token takes its place
            tokens = tokens[most:]
        if tokens:
            self._load(tokens)
        yield from self._results(results)

    def _run_guessing(self, draft: Draft, slots: Slots, tokens: Sequence[int], count: int) -> Iterator[int]:
        """`_run` with guesses: the sequence as a track of its own, which is put back at the end."""
        self.check_tokens(tokens)
        inverse, seed = self._sampler
        stream, fed = Stream(seed, self._loaded().vocab), self._fed + max(self.position - self._behind, 0)
        if self._guesser is None:
            self._guesser = draft.begin(inverse, stream.behind(fed))
        stepper = Stepper(slots, self.position, self.pace)
        stepper.counts = self.drafted
        track = Track(self._slot, list(tokens), count, inverse, stream, fed, self._fresh, guesser=self._guesser)
        stepper.tracks.append(track)
        self._ahead, self._restored = [], None
        came: list[int] = []
        try:
            while track.left or came:
                came += [token for _, token in stepper.advance()] if not came else []
                while came:
                    yield came.pop(0)
        except TritapeError:
            self._guesser = None  # it has stopped, or is gone
            raise
        finally:
            if track.left and self._guesser is not None:  # left early
                came += [token for _, token in stepper.drain()]
            self._slot, self._fresh, self._fed = track.slot, track.fresh, track.fed
            self.position = self._limit = self._behind = stepper.position + 1
            self._chosen, self._ahead = track.feed[-1] if track.alone else None, came

    def _poll(self, count: int) -> tuple[Reply, list[int]]:
        """Let the device run so many tokens further; those that it has, at least one unless it stops. 0: no waiting."""
        self._limit = max(self._limit, self.position + min(count, WINDOW))
        if self.slots is not None:
            self.slots.forget()
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

    def save_state(self) -> bytes:
        """The recurrent state of the sequence, a few kilobytes: everything that the model knows of the text so far."""
        self._loaded()
        self._catch_up()
        last = self._restored if self._chosen is None else self._chosen
        return self.slot_state(self._slot, last, self._ahead, fresh=self._fresh).pack()

    def _catch_up(self) -> None:
        """Read what the device ran ahead, or was to run: its state is behind it."""
        while self.position < self._limit:
            self._ahead += self._results(self._limit - self.position)

    def restore_state(self, state: bytes) -> None:
        """Go on from a saved state. Raises TritapeError for bytes that are not one, are damaged, or are another model's."""
        saved = self.put_state(self._slot, state)
        self._fresh, self._chosen, self._limit = saved.fresh, None, self.position
        self._ahead, self._restored = list(saved.ahead), saved.last
        self._guesser = None

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

    def _state_elements(self, hidden: int, layers: int) -> int:
        """Addresses of the state: layer, then element of a lane, then lane (counted to a power of two)."""
        geometry = self.identity.geometry
        return layers * geometry.lane(hidden) << (geometry.engines - 1).bit_length()

    def _loaded(self) -> HeaderPayload:
        if self.header is None or not self.booted:
            raise TritapeError("a tape must be booted before its state is touched, not none; load one first")
        return self.header


def elements(data: bytes) -> Ints:
    """Numbers of 18 bits, as they travel: three bytes each, low first, sign above."""
    raw = np.frombuffer(data, np.uint8).reshape(-1, _ELEMENT).astype(np.int64)
    value = raw[:, 0] | raw[:, 1] << 8 | raw[:, 2] << 16
    return (value & 0x1FFFF) - (value & 0x20000)
