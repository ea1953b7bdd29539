"""Devices with several slots: steps for them, and what of each slot the device was told (docs/protocol.md, "Slots")."""

from __future__ import annotations

import struct
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache

from tritape.base.errors import TritapeError
from tritape.host.link import Link
from tritape.host.protocol import DATA_BYTES, Command, Reply
from tritape.model.arith import XORSHIFT_DEFAULT, xorshift32

_ENTRY = struct.Struct("<HB")
_ACTIVE, _FRESH, _CHAIN, _AGAIN = 1, 2, 4, 8


@dataclass(frozen=True)
class Entry:
    """A slot's share of a step: its token, or None for the one that it chose last, and where its state starts
    (docs/decisions/0006-batch.md)."""

    token: int | None
    fresh: bool = False
    chain: bool = False


Step = Sequence[Entry | None]
"""An entry a slot, None where it has nothing to do."""


def step_bytes(entries: Step) -> bytes:
    """A step as LOAD carries it."""
    data = b""
    for entry in entries:
        flags = 0
        if entry is not None:
            flags = _ACTIVE + _FRESH * entry.fresh + _CHAIN * entry.chain + _AGAIN * (entry.token is None)
        data += _ENTRY.pack(0 if entry is None else entry.token or 0, flags)
    return data


def prompt_steps(tokens: Sequence[int], slot: int, count: int, *, fresh: bool) -> tuple[list[list[Entry | None]], int]:
    """A prompt on `count` slots, as many tokens a step, its state beginning on `slot`: the steps, and the slot that has it
    at the end. With `fresh` the state begins at zero."""
    steps: list[list[Entry | None]] = []
    for start in range(0, len(tokens), count):
        entries: list[Entry | None] = [None] * count
        first = slot
        for offset, token in enumerate(tokens[start : start + count]):
            slot = (first + offset) % count
            entries[slot] = Entry(token, fresh=fresh and start + offset == 0, chain=offset > 0)
        steps.append(entries)
    return steps, slot


def check_chains(entries: Step, batch: int) -> None:
    """Raise `TritapeError` where a step is not one entry a slot, or a chained entry has no slot to start from."""
    if len(entries) != batch:
        raise TritapeError(
            f"a step must have {batch} entries, not {len(entries)}; give None for a slot with nothing to do"
        )
    for slot, entry in enumerate(entries):
        if entry is None or not entry.chain:
            continue
        if entry.fresh:
            raise TritapeError(f"slot {slot} must start from another slot or at zero, not both; choose one")
        if entries[slot - 1] is None:
            raise TritapeError(
                f"slot {slot} must start from slot {(slot - 1) % batch}, which has no token; do not chain it"
            )
    if all(entry is not None and entry.chain for entry in entries):
        raise TritapeError(
            "a slot must start from its own state, not all of them from another; do not chain one of them"
        )


class Slots:
    """The slots of a device: which one is chosen, what their samplers were told, and steps for them.

    `most_steps`: that one LOAD carries; `most_results`: steps whose tokens one POLL brings.
    """

    def __init__(self, link: Link, count: int) -> None:
        self._link = link
        self.count = count
        self.most_steps = DATA_BYTES // (_ENTRY.size * count)
        self.most_results = DATA_BYTES // (2 * count)
        self._stands: list[Place | None] = [None] * count
        self.doubt()

    def doubt(self) -> None:
        """The device may have been reset, or told by another host: believe nothing that it was told."""
        self._chosen: int | None = None
        self._inverse: list[int | None] = [None] * self.count
        self.forget()

    def choose(self, slot: int) -> None:
        """Sampler, state and logits are this slot's from now on."""
        if self._chosen != slot:
            self._link.call(Command.SLOT, slot)
            self._chosen = slot

    def sampler(self, slot: int, inverse: int, generator: int) -> None:
        """Give a slot its inverse temperature and, unless that is 0, its generator's state."""
        self._stands[slot] = None
        if self._inverse[slot] != inverse:
            self.choose(slot)
            self._link.call(Command.TEMPERATURE, inverse)
            self._inverse[slot] = inverse
        if inverse:
            self.choose(slot)
            self._link.call(Command.SEED, generator)

    def draws_from(self, slot: int, inverse: int, stream: Stream, tokens: int) -> bool:
        """Whether a slot is known to have this sampler, its generator where it stands behind so many tokens of a stream."""
        return self._inverse[slot] == inverse and (not inverse or self._stands[slot] == (stream.seed, tokens))

    def draw_from(self, slot: int, inverse: int, stream: Stream, tokens: int) -> bool:
        """`sampler`, unless `draws_from`; whether that was needed."""
        if self.draws_from(slot, inverse, stream, tokens):
            return False
        self.sampler(slot, inverse, stream.behind(tokens) if inverse else 0)
        self._stands[slot] = stream.seed, tokens
        return True

    def drew(self, slot: int) -> None:
        """A slot has run a token."""
        place = self._stands[slot]
        if place is not None and self._inverse[slot]:
            self._stands[slot] = place[0], place[1] + 1

    def forget(self) -> None:
        """Slots ran without `drew`."""
        self._stands = [None] * self.count

    def load(self, position: int, steps: Sequence[Step], *, logits: bool = False) -> None:
        """Put at most `most_steps` steps into the ring."""
        for step in steps:
            check_chains(step, self.count)
        data = b"".join(map(step_bytes, steps))
        self._link.call(Command.LOAD, position & 0xFF | logits << 17, len(steps) * self.count, data)

    def poll(
        self,
        position: int,
        limit: int,
        going: Sequence[int],
        count: int,
        meanwhile: Callable[[], None] | None = None,
    ) -> tuple[Reply, list[tuple[int, ...]]]:
        """Let the slots run up to a limit, those of `going` where no step is given, and read: what they chose in at most
        `count` steps from a position on, T tokens each. `meanwhile` is done before the answer is read."""
        mask = sum(1 << slot for slot in going)
        argument = position & 0xFF | (limit & 0xFF) << 8 | mask << 16
        reply = self._link.call(Command.POLL, argument, min(count, self.most_results) * self.count, meanwhile=meanwhile)
        whole = len(reply.data) // (2 * self.count) * (2 * self.count)
        return reply, list(struct.iter_unpack(f"<{self.count}H", reply.data[:whole]))


Place = tuple[int, int]
"""Where a generator stands: the seed of its stream, and the tokens that were run since."""


class Stream:
    """The states of a sampler's generator along a sequence: `behind` so many tokens, each of `vocab` draws.

    Cost: some microseconds where the number of tokens is little more than that of the last call, a matrix each step.
    """

    _NEAR = 16

    def __init__(self, seed: int, vocab: int) -> None:
        self.seed, self._vocab = seed, vocab
        self._last = 0, seed or XORSHIFT_DEFAULT

    def behind(self, tokens: int) -> int:
        """The state for the next token when so many have been run."""
        known, state = self._last
        if not 0 <= tokens - known <= self._NEAR:
            state = generator_after(self.seed, tokens * self._vocab)
        else:
            for _ in range(tokens - known):
                state = _times(_power(self._vocab), state)
        self._last = tokens, state
        return state


def generator_after(seed: int, steps: int) -> int:
    """The state of the sampler's generator (`arith.xorshift32`) so many steps after a seed; 0 is the default seed.

    One step is linear over GF(2): the state's bits times a matrix, whose powers of two make any power.
    """
    state, power = seed or XORSHIFT_DEFAULT, 0
    while steps >> power:
        if steps >> power & 1:
            state = _times(_doubled(power), state)
        power += 1
    return state


@cache
def _doubled(power: int) -> tuple[int, ...]:
    """Columns of the matrix of 2^power steps: what it makes of each bit."""
    if power == 0:
        return tuple(xorshift32(1 << bit) for bit in range(32))
    half = _doubled(power - 1)
    return tuple(_times(half, column) for column in half)


@cache
def _power(steps: int) -> tuple[int, ...]:
    """Columns of the matrix of so many steps."""
    return tuple(generator_after(1 << bit, steps) for bit in range(32))


def _times(columns: Sequence[int], state: int) -> int:
    product = 0
    for bit, column in enumerate(columns):
        if state >> bit & 1:
            product ^= column
    return product
