"""Devices with several tracks: steps for them, and what of each track the device was told (docs/protocol.md, "Tracks")."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

from tritape.host.link import Link
from tritape.host.protocol import DATA_BYTES, Command, Reply
from tritape.model.arith import XORSHIFT_DEFAULT, xorshift32
from tritape.model.errors import TritapeError

_ENTRY = struct.Struct("<HB")
_ACTIVE, _FRESH, _CHAIN, _AGAIN = 1, 2, 4, 8


@dataclass(frozen=True)
class Entry:
    """A track's share of a step: its token, or None for the one that it chose last, and where its state starts
    (docs/decisions/0006-token-lanes.md)."""

    token: int | None
    fresh: bool = False
    chain: bool = False


Step = Sequence[Entry | None]
"""An entry a track, None where it has nothing to do."""


def step_bytes(entries: Step) -> bytes:
    """A step as LOAD carries it."""
    data = b""
    for entry in entries:
        flags = 0
        if entry is not None:
            flags = _ACTIVE + _FRESH * entry.fresh + _CHAIN * entry.chain + _AGAIN * (entry.token is None)
        data += _ENTRY.pack(0 if entry is None else entry.token or 0, flags)
    return data


def prompt_steps(tokens: Sequence[int], track: int, count: int, *, fresh: bool) -> tuple[list[list[Entry | None]], int]:
    """A prompt on `count` tracks, as many tokens a step, its state beginning on `track`: the steps, and the track that has it
    at the end. With `fresh` the state begins at zero."""
    steps: list[list[Entry | None]] = []
    for start in range(0, len(tokens), count):
        entries: list[Entry | None] = [None] * count
        first = track
        for offset, token in enumerate(tokens[start : start + count]):
            track = (first + offset) % count
            entries[track] = Entry(token, fresh=fresh and start + offset == 0, chain=offset > 0)
        steps.append(entries)
    return steps, track


def check_chains(entries: Step, tracks: int) -> None:
    """Raise `TritapeError` where a step is not one entry a track, or a chained entry has no track to start from."""
    if len(entries) != tracks:
        raise TritapeError(
            f"a step must have {tracks} entries, not {len(entries)}; give None for a track with nothing to do"
        )
    for track, entry in enumerate(entries):
        if entry is None or not entry.chain:
            continue
        if entry.fresh:
            raise TritapeError(f"track {track} must start from another track or at zero, not both; choose one")
        if entries[track - 1] is None:
            raise TritapeError(
                f"track {track} must start from track {(track - 1) % tracks}, which has no token; do not chain it"
            )
    if all(entry is not None and entry.chain for entry in entries):
        raise TritapeError(
            "a track must start from its own state, not all of them from another; do not chain one of them"
        )


class Tracks:
    """The tracks of a device: which one is chosen, what their samplers were told, and steps for them.

    `most_steps`: that one LOAD carries; `most_results`: steps whose tokens one POLL brings.
    """

    def __init__(self, link: Link, count: int) -> None:
        self._link = link
        self.count = count
        self.most_steps = DATA_BYTES // (_ENTRY.size * count)
        self.most_results = DATA_BYTES // (2 * count)
        self._chosen: int | None = None  # an earlier host may have chosen any
        self._inverse: list[int | None] = [None] * count

    def choose(self, track: int) -> None:
        """Sampler, state and logits are this track's from now on."""
        if self._chosen != track:
            self._link.call(Command.TRACK, track)
            self._chosen = track

    def sampler(self, track: int, inverse: int, generator: int) -> None:
        """Give a track its inverse temperature and, unless that is 0, its generator's state."""
        if self._inverse[track] != inverse:
            self.choose(track)
            self._link.call(Command.TEMPERATURE, inverse)
            self._inverse[track] = inverse
        if inverse:
            self.choose(track)
            self._link.call(Command.SEED, generator)

    def load(self, position: int, steps: Sequence[Step], *, logits: bool = False) -> None:
        """Put at most `most_steps` steps into the ring."""
        for step in steps:
            check_chains(step, self.count)
        data = b"".join(map(step_bytes, steps))
        self._link.call(Command.LOAD, position & 0xFF | logits << 17, len(steps) * self.count, data)

    def poll(self, position: int, limit: int, going: Sequence[int], count: int) -> tuple[Reply, list[tuple[int, ...]]]:
        """Let the tracks run up to a limit, those of `going` where no step is given, and read: what they chose in at most
        `count` steps from a position on, T tokens each."""
        mask = sum(1 << track for track in going)
        argument = position & 0xFF | (limit & 0xFF) << 8 | mask << 16
        reply = self._link.call(Command.POLL, argument, min(count, self.most_results) * self.count)
        whole = len(reply.data) // (2 * self.count) * (2 * self.count)
        return reply, list(struct.iter_unpack(f"<{self.count}H", reply.data[:whole]))


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


def _times(columns: Sequence[int], state: int) -> int:
    product = 0
    for bit, column in enumerate(columns):
        if state >> bit & 1:
            product ^= column
    return product
