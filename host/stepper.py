"""Steps for many sequences on the slots of a device: prompts, decoding and guesses share them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from itertools import pairwise

from tritape.base.errors import TritapeError
from tritape.host import protocol
from tritape.host.draft.adaptive import MOST_REST, Pace
from tritape.host.slots import Entry, Slots
from tritape.host.track import DraftCounts, Part, Step, Track, Window
from tritape.hw.link.token_runner import WINDOW

LOOK_AHEAD = 4
"""Steps that a device is let run beyond those read, at first; twice as many whenever it had to wait for the host."""


class Stepper:
    """Runs tracks on slots. `advance` makes one exchange with the device; `between` two windows of them, tracks may be added,
    removed and moved, and the slots be used.

    A step has an entry for each slot. A prompt, and a track with guesses, take the free slots behind their own too, up to the
    next track's; the state is then in the slot of the last token that counts, so nothing is copied. Every token is the one that
    one slot alone would choose, for the generator of its slot is set to where one slot's would stand.

    With `pace`, tracks that have a guesser verify guesses where that pays. `changed`: whether the tracks are to be changed as
    soon as may be, without waiting for one of them to end. `most_ahead`: steps that the device may run beyond those read.
    `counts`: what came of guesses.
    """

    def __init__(
        self,
        slots: Slots,
        position: int,
        pace: Pace | None = None,
        *,
        changed: Callable[[], bool] = bool,
        most_ahead: int = WINDOW,
    ) -> None:
        self._slots, self._pace, self._changed, self._most_ahead = slots, pace, changed, most_ahead
        self.tracks: list[Track] = []
        self.position = position
        self.counts = DraftCounts()
        self._window: Window | None = None
        self._ahead = min(LOOK_AHEAD, most_ahead)

    @property
    def between(self) -> bool:
        """Whether no step is under way."""
        return self._window is None

    def free(self) -> int | None:
        """A slot without a track, in the middle of the most of them in a row."""
        count, homes = self._slots.count, sorted(track.slot for track in self.tracks)
        if not homes:
            return 0
        room, before = max((after - before, before) for before, after in pairwise([*homes, homes[0] + count]))
        return None if room < 2 else (before + room // 2) % count

    def advance(self) -> list[tuple[Track, int]]:
        """Give the device steps, or hear of those under way: (track, token) as they were chosen, maybe none."""
        window = self._window or self._begin()
        if window.granted < window.total and self._changed():
            window.total = window.most = window.granted
        if window.read + self._ahead >= window.total < window.most and not self._can_pay():
            window.total = min(window.total + MOST_REST, window.most)
        return self._exchange(window)

    def drain(self) -> list[tuple[Track, int]]:
        """Let the steps that the device was given come to their end; their tokens."""
        came: list[tuple[Track, int]] = []
        while self._window is not None:
            self._window.total = self._window.most = max(self._window.granted, 1)
            came += self._exchange(self._window)
        return came

    def _exchange(self, window: Window) -> list[tuple[Track, int]]:
        silent = window.read  # steps from there on that choose nothing are not read
        while silent < len(window.steps) and not any(part.ends for part in window.steps[silent]):
            silent += 1
        if silent == window.total:
            silent -= 1
        before, window.granted = window.granted, max(window.granted, min(window.total, window.read + self._ahead))
        going = [part.slots[0] for part in window.tail]
        first, limit = window.start + silent + 1, window.start + window.granted + 1
        meanwhile = partial(self._meanwhile, window)
        reply, rows = self._slots.poll(first, limit, going, window.granted - silent, meanwhile)
        if not rows and not reply.running:
            raise TritapeError(protocol.STOPPED)
        came: list[tuple[Track, int]] = []
        if rows:
            for step in range(window.read, silent + len(rows)):
                row = rows[step - silent] if step >= silent else ()
                for part in window.parts(step):
                    came += [(part.track, token) for token in self._ran(part, row)]
            window.read = silent + len(rows)
            if window.first is None and self._pace is not None:
                window.first = self._pace.clock(), window.read
        if window.asked and window.read >= before < window.total:  # the device had to wait for the host
            self._ahead = min(2 * self._ahead, self._most_ahead)
        window.asked = True
        if window.read == window.total:
            self._end(window)
        return came

    def _begin(self) -> Window:
        """Plan a window, and load its steps."""
        if self._pace is not None:
            self._ahead = max(self._ahead, min(self._pace.exchange_steps(4), self._most_ahead))
        guesses = self._guesses()
        steps, tail, most = self._planned(guesses)
        total, pace = most, self._pace
        if (
            pace is not None
            and not guesses
            and (any(one.guesser for one in self.tracks) if steps else self._candidates())
        ):
            total = min(most, len(steps) + pace.rest)  # then guesses are tried again
        settings = self._set_samplers(steps or [tail])
        began = 0.0 if pace is None else pace.clock()
        if steps:
            self._slots.load(self.position, [self._entries(step, number == 0) for number, step in enumerate(steps)])
        load_s = 0.0 if pace is None else pace.clock() - began
        for part in (part for step in steps for part in step):
            if part.track.guesser is not None:
                part.track.guesser.take(part.tokens[: part.known])
        count = sum(map(len, guesses.values()))
        granted = max(len(steps), min(total, self._ahead))
        self._window = Window(self.position, steps, tail, total, most, granted, count, settings, began, load_s)
        return self._window

    def _planned(self, guesses: Mapping[Track, list[int]]) -> tuple[list[Step], Step, int]:
        """Steps to load, who takes part in those behind them, and all steps until a track ends or something must be loaded."""
        at = {track: (track.slot, 0, 0) for track in self.tracks}  # slot, tokens of `feed` that were run, tokens chosen
        waiting = {track for track in self.tracks if not track.alone or track in guesses}
        steps: list[Step] = []
        over = False
        while waiting and len(steps) < (1 if guesses else self._slots.most_steps) and not over:
            rooms = self._rooms({track: slot for track, (slot, _, _) in at.items()})
            step = []
            for track, (slot, done, chosen) in at.items():
                given = track.feed[done : done + rooms[track]]
                ends = done + len(given) == len(track.feed)
                tokens = given + guesses.get(track, [])
                slots = [(slot + number) % self._slots.count for number in range(len(tokens) or 1)]
                step.append(Part(track, slots, tokens, len(given) or 1, ends))
                at[track] = slots[step[-1].known - 1], done + len(given), chosen + ends
                if ends:
                    waiting.discard(track)
                over |= chosen + ends == track.left
            steps.append(step)
        tail = [Part(track, [slot], [], 1, True) for track, (slot, _, _) in at.items()]
        free = not (waiting or over or guesses)
        return steps, tail, len(steps) + free * min(track.left - chosen for track, (_, _, chosen) in at.items())

    def _rooms(self, homes: Mapping[Track, int]) -> dict[Track, int]:
        """Slots from a track's own on, up to the next track's."""
        count = self._slots.count
        return {
            track: min(((other - slot - 1) % count + 1 for other in homes.values()), default=count)
            for track, slot in homes.items()
        }

    def _candidates(self) -> dict[Track, int]:
        """Tracks that could verify guesses now, and how many."""
        rooms = self._rooms({track: track.slot for track in self.tracks})
        most = {track: min(rooms[track], track.left) - 1 for track in self.tracks}
        return {
            track: room
            for track, room in most.items()
            if room > 0 and track.guesser is not None and len(track.feed) == 1
        }

    def _guesses(self) -> dict[Track, list[int]]:
        """Guesses to verify in the next step, by track; none where they do not pay, or it is too early to try again."""
        pace, count = self._pace, len(self.tracks)
        if pace is None:
            return {}
        if not self._can_pay():
            pace.never()
        if pace.rest or not (candidates := self._candidates()):
            return {}
        started = pace.clock()
        for track in candidates:
            assert track.guesser is not None
            track.guesser.ahead(0)
        ready, found = pace.clock(), {}
        for track, room in candidates.items():
            assert track.guesser is not None
            wanted = pace.count(track.rate, self._unset(track, room), count)
            if guesses := track.guesser.guess(track.feed[0], wanted):
                found[track] = guesses
        seconds = pace.clock() - ready
        self.counts.draft_seconds += pace.clock() - started
        if found:
            pace.guessed(seconds, sum(map(len, found.values())))
        else:
            pace.pause(0)
        return found

    def _unset(self, track: Track, room: int) -> list[bool]:
        """For each guess that there is room for, whether a generator would have to be set."""
        at = [((track.slot + number) % self._slots.count, track.fed + number) for number in range(1, room + 1)]
        return [not self._slots.draws_from(slot, track.inverse, track.stream, fed) for slot, fed in at]

    def _can_pay(self) -> bool:
        """Whether guesses pay where one sequence has all slots, and all of them are right."""
        most = self._slots.count - 1
        return self._pace is not None and self._pace.pays(most, most, 0, 1)

    def _meanwhile(self, window: Window) -> None:
        """What guessers can do while the device is busy."""
        pace = self._pace
        if pace is None or pace.plain_s is None or not self._can_pay():
            return  # a guesser may take longer than the device
        started = pace.clock()
        for track in self.tracks:
            if track.guesser is not None:
                track.guesser.ahead(window.guesses if pace.hides(window.guesses) else 0)
        self.counts.draft_seconds += pace.clock() - started

    def _set_samplers(self, steps: Sequence[Step]) -> int:
        """The generators of slots whose choice counts: each to where it stands, when that is made, for one slot alone; how many
        were set."""
        started, count = 0.0 if self._pace is None else self._pace.clock(), 0
        drawn = [0] * self._slots.count  # in this window so far
        fed = {track: track.fed for track in self.tracks}
        done: set[Track] = set()
        for step in steps:
            for part in step:
                track = part.track
                if part.ends and track not in done:
                    done.add(track)
                    for number in range(part.known - 1, len(part.slots)):
                        slot = part.slots[number]
                        count += self._slots.draw_from(
                            slot, track.inverse, track.stream, fed[track] + number - drawn[slot]
                        )
                fed[track] += part.known
            for slot in (slot for part in step for slot in part.slots):
                drawn[slot] += 1
        if count and self._pace is not None:
            self._pace.set(self._pace.clock() - started, count)
        return count

    def _entries(self, step: Step, first: bool) -> list[Entry | None]:
        entries: list[Entry | None] = [None] * self._slots.count
        for part in step:
            for number, slot in enumerate(part.slots):
                token = part.tokens[number] if part.tokens else None
                fresh = first and part.track.fresh and number == 0
                entries[slot] = Entry(token, fresh=fresh, chain=number > 0)
        return entries

    def _ran(self, part: Part, row: Sequence[int]) -> list[int]:
        """A track has run its share of a step; the tokens that it chose, in order."""
        track, last = part.track, part.known - 1
        for slot in part.slots:
            self._slots.drew(slot)
        if track.guesser is not None and not part.tokens:
            track.guesser.take(track.feed[:1])
        chosen = []
        if part.ends:
            chosen.append(row[part.slots[last]])
            while last + 1 < len(part.tokens) and part.tokens[last + 1] == chosen[-1]:
                last += 1
                chosen.append(row[part.slots[last]])
            guessed, right = len(part.slots) - part.known, last + 1 - part.known
            if guessed:
                assert track.guesser is not None
                track.guesser.take(part.tokens[part.known : last + 1])
                track.rate.saw(guessed, right)
            self.counts.steps += 1
            self.counts.guessed += guessed
            self.counts.accepted += right
            track.left -= len(chosen)
        track.feed = chosen[-1:] or track.feed[part.known :]
        track.slot, track.fed, track.fresh, track.alone = part.slots[last], track.fed + last + 1, False, part.ends
        return chosen

    def _end(self, window: Window) -> None:
        """All steps of a window have run."""
        self._window = None
        self.position += window.total
        pace = self._pace
        if pace is None:
            return
        now = pace.clock()
        if window.guesses:
            pace.verified(now - window.began)
            gain = sum(part.track.rate.gain(len(part.slots) - part.known) for part in window.steps[0])
            if not pace.pays(gain, window.guesses, window.settings, len(window.tail)):
                pace.pause(window.guesses, window.settings)
            return
        if window.steps:
            pace.began(window.load_s, now - window.began - window.load_s, window.total)
        elif window.first is not None and window.total - window.first[1] > 1:
            pace.plain((now - window.first[0]) / (window.total - window.first[1]))
        pace.rest = max(pace.rest - window.total + len(window.steps), 0)
