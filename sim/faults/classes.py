"""Classes of single faults: what each may do, drawn by a seeded generator."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from tritape.host import frames, protocol
from tritape.host.protocol import Command
from tritape.sim.faults.session import Damage, Session
from tritape.sim.faults.simulation import NEVER, Armed, Counts, Kind
from tritape.sim.faults.top import PATIENCE

SLVERR, DECERR = 2, 3


@dataclass(frozen=True)
class Clean:
    """What a session without a fault takes: ranges to draw from. `sent`, `received`: bytes of the host."""

    counts: Counts
    sent: int
    received: int


@dataclass(frozen=True)
class Fault:
    """One fault: `armed` in the simulator when the session begins, or (`loaded`) when the tape is in memory; or `damage`.

    `about`: what it is, for the record; `reader`: first run that reads a damaged byte of the tape.
    """

    about: str
    armed: Armed | None = None
    loaded: bool = False
    damage: Damage | None = None
    reader: int | None = None


Draw = Callable[[random.Random, Session, Clean], Fault]


def _tape(part: str) -> Draw:
    def draw(rng: random.Random, session: Session, clean: Clean) -> Fault:
        ranges = session.parts()[part]
        place, bit = rng.choice(rng.choice(ranges)), rng.randrange(8)
        armed = Armed(Kind.TAPE, a=place, b=bit)
        return Fault(f"byte {place} bit {bit}", armed, loaded=True, reader=session.first_reader(place))

    return draw


def _bus(*kinds: Kind) -> Draw:
    def draw(rng: random.Random, session: Session, clean: Clean) -> Fault:
        kind, counts = rng.choice(kinds), clean.counts
        many = {Kind.DATA: counts.beats, Kind.WRITE_RESPONSE: counts.writes, Kind.LATE_ANSWER: counts.writes}
        bursts = (
            Kind.SHORTER,
            Kind.LONGER,
            Kind.EARLY,
            Kind.LOST,
            Kind.RESPONSE,
            Kind.DELAY,
            Kind.ADDRESS,
            Kind.LOST_BURST,
        )
        many |= dict.fromkeys(bursts, counts.bursts)
        when = rng.randrange(many.get(kind, counts.cycles))
        waits = (1, 30, 1000, 1 << PATIENCE, 1 << PATIENCE + 2)
        a = {
            Kind.DATA: rng.randrange(64),
            Kind.SHORTER: rng.randrange(1, 17),
            Kind.LONGER: rng.randrange(1, 17),
            Kind.RESPONSE: rng.choice((SLVERR, DECERR)),
            Kind.WRITE_RESPONSE: rng.choice((SLVERR, DECERR)),
            Kind.DELAY: rng.choice(waits),
            Kind.SILENT: rng.choice((*waits, NEVER)),
            Kind.LATE_ANSWER: rng.choice(waits),
            Kind.ADDRESS: rng.randrange(3, 20),
        }.get(kind, 0)
        b = rng.randrange(16)
        return Fault(f"{kind.name} at {when}: {a}, {b}", Armed(kind, when, a, b))

    return draw


def _lost(rng: random.Random, session: Session, clean: Clean) -> Fault:
    if rng.random() < 0.7:
        when = rng.randrange(clean.counts.bursts)
        return Fault(f"burst {when}", Armed(Kind.LOST_BURST, when))
    when = rng.randrange(clean.counts.writes)
    return Fault(f"answer of write {when}", Armed(Kind.LATE_ANSWER, when, NEVER))


def _changes(rng: random.Random) -> tuple[str, Callable[[int], bytes]]:
    """What a wire may make of a byte."""
    bit, other = rng.randrange(8), rng.randrange(256)
    return rng.choice(
        (
            (f"bit {bit} flipped", lambda byte: bytes([byte ^ 1 << bit])),
            ("dropped", lambda byte: b""),
            ("doubled", lambda byte: bytes([byte, byte])),
            (f"{other} inserted", lambda byte: bytes([other, byte])),
            (f"became {other}", lambda byte: bytes([other])),
        )
    )


def _wire(*, outward: bool) -> Draw:
    def draw(rng: random.Random, session: Session, clean: Clean) -> Fault:
        place = rng.randrange(clean.sent if outward else clean.received)
        name, change = _changes(rng)
        return Fault(f"byte {place} {name}", damage=Damage(outward, place, change))

    return draw


def _kill(rng: random.Random, session: Session, clean: Clean) -> Fault:
    outward = rng.random() < 0.8
    place = rng.randrange(clean.sent if outward else clean.received)
    return Fault(f"before byte {place} {'to' if outward else 'from'} the device", damage=Damage(outward, place, None))


def _reset(rng: random.Random, session: Session, clean: Clean) -> Fault:
    when = rng.randrange(clean.counts.cycles)
    return Fault(f"cycle {when}", Armed(Kind.RESET, when))


def _intruder(rng: random.Random, session: Session, clean: Clean) -> Fault:
    when, kind = rng.randrange(clean.counts.cycles), rng.choice((Command.RESTART, Command.IDENTIFY, Command.STOP))
    frame = frames.encode(protocol.command(kind, rng.randrange(256), rng.getrandbits(32)))
    return Fault(f"{kind.name} at cycle {when}", Armed(Kind.BYTES, when, data=frame))


def memory_classes(memories: Sequence[tuple[str, int, int]]) -> dict[str, list[int]]:
    """Numbers of the memories inside by the class of what they hold."""
    found: dict[str, list[int]] = {}
    for number, (name, _, _) in enumerate(memories):
        found.setdefault(_class_of(name), []).append(number)
    return found


_HOLDS = (
    ("link", "link"),
    ("backend", "TOP.top.memory"),
    ("state", "state"),
    ("lower bounds", "lower_bound"),
    ("gains", "gain"),
    ("fill script", "script"),
    ("tables", "table_"),
    ("constants", "table"),
    ("activations", "activation_memory"),
    ("candidates", "candidates"),
    ("row sums", "accumulator"),
    ("residual", "residual"),
    ("queues", "storage"),
)


def _class_of(name: str) -> str:
    return next((holds for holds, part in _HOLDS if part in name), "other")


def _poke(numbers: Sequence[int]) -> Draw:
    def draw(rng: random.Random, session: Session, clean: Clean) -> Fault:
        number = rng.choice(numbers)
        name, depth, bits = session.simulation.memories[number]
        place, bit, when = rng.randrange(depth), rng.randrange(bits), rng.randrange(clean.counts.cycles)
        armed = Armed(Kind.POKE, when, number, place, bit)
        return Fault(f"{name} word {place} bit {bit} at cycle {when}", armed)

    return draw


OUTSIDE: dict[str, tuple[int, Draw]] = {
    "tape, section header": (12, _tape("header")),
    "tape, payload": (8, _tape("payload")),
    "tape, CRC": (4, _tape("CRC")),
    "tape, embedding row": (6, _tape("embedding")),
    "tape, HEADER section": (4, _tape("HEADER")),
    "bus, data bit": (8, _bus(Kind.DATA)),
    "bus, error response": (6, _bus(Kind.RESPONSE)),
    "bus, burst of a wrong length": (8, _bus(Kind.SHORTER, Kind.LONGER, Kind.EARLY, Kind.LOST)),
    "bus, beat or answer not asked for": (4, _bus(Kind.STRAY, Kind.STRAY_ANSWER)),
    "bus, delay or silence": (6, _bus(Kind.DELAY, Kind.SILENT)),
    "bus, write refused or late": (4, _bus(Kind.WRITE_RESPONSE, Kind.LATE_ANSWER)),
    "bus, address bit": (4, _bus(Kind.ADDRESS)),
    "bus, burst or answer lost for good": (2, _lost),
    "link, to the device": (8, _wire(outward=True)),
    "link, from the device": (8, _wire(outward=False)),
    "reset of the device": (6, _reset),
    "command of another host": (4, _intruder),
    "host killed": (6, _kill),
}
"""Class -> (share, how to draw one): tape, bus, link, resets and hosts."""


def classes(session: Session) -> tuple[dict[str, tuple[int, Draw]], dict[str, tuple[int, Draw]]]:
    """(those outside, those of memories inside the device) of a design."""
    inside = memory_classes(session.simulation.memories)
    return OUTSIDE, {f"inside, {name}": (1, _poke(numbers)) for name, numbers in sorted(inside.items())}


def draw(number: int, seed: int, session: Session, clean: Clean) -> tuple[str, Fault]:
    """(class, fault) of a number: classes take turns by their shares, the rest comes from the seed and the number."""
    outside, inside = classes(session)
    wheel = [(name, make) for name, (share, make) in (outside | inside).items() for _ in range(share)]
    name, make = wheel[number % len(wheel)]
    return name, make(random.Random(f"{seed} {number}"), session, clean)
