"""Which E x G, F, T and how many replicas for a card of several regions: the most tokens a second above a rate a stream."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from heapq import heappop, heappush
from itertools import count
from math import ceil, log2
from typing import Any

from tritape.base.errors import TritapeError
from tritape.hw.config import MAX_BATCH, Config
from tritape.hw.link.commands import DATA_BYTES
from tritape.model.config import ModelConfig
from tritape.rtl_gen.choose import TOLERANCE, memory_defaults, rate_bound
from tritape.rtl_gen.estimate import estimate_tokens
from tritape.rtl_gen.parts import Part
from tritape.rtl_gen.ultrascale import LIMITS, NAMES, Cells, Placed, binding, most_slots, place, used

FILLERS = (1, 2, 4)
ENGINES = (1, 2, 4, 8, 16)
LEAST_WORD = 0.9
"""Bytes that an engine takes a cycle over those that the memory delivers, at least: below, what a slot costs beside its tables is
wasted."""


@dataclass(frozen=True)
class ReplicaPoint:
    """`replicas` of `config` on a card, each with its share of regions and memory: `rate` and `stream_rate` in tokens a second
    (projected), of all and of one stream; `share` of what each resource has; `binding`: what more slots would lack."""

    config: Config
    replicas: int
    rate: float
    roofline: float
    limited_by: str
    placed: Placed
    share: dict[str, float]
    binding: str

    @property
    def stream_rate(self) -> float:
        """Of one of all `replicas` T streams."""
        return self.rate / (self.replicas * self.config.batch)

    @property
    def fits(self) -> bool:
        """No resource is used beyond its limit."""
        return self.use <= 1

    @property
    def use(self) -> float:
        """Of what may be used of the scarcest resource."""
        return max(self.share[name] / limit for name, limit in LIMITS.items())

    @property
    def name(self) -> str:
        """`4 x E=4 G=16 T=12`, and the tables a filler where they are not 1."""
        config = self.config
        fillers = f" F={config.tables_per_filler}" if config.tables_per_filler > 1 else ""
        return f"{self.replicas} x E={config.engines} G={config.groups}{fillers} T={config.batch}"

    def as_dict(self) -> dict[str, Any]:
        """JSON-ready."""
        return {
            "replicas": self.replicas,
            "engines": self.config.engines,
            "groups": self.config.groups,
            "tables_per_filler": self.config.tables_per_filler,
            "batch": self.config.batch,
            "tokens_per_second": self.rate,
            "stream_tokens_per_second": self.stream_rate,
            "roofline_fraction": self.roofline,
            "limited_by": self.limited_by,
            "binding": self.binding,
            "cells_of_a_replica": asdict(self.placed.cells),
            "memories": [list(entry) for entry in self.placed.places],
            "share": self.share,
        }


@dataclass(frozen=True)
class ReplicaChoice:
    """`best`; `others`: the best of the other widths and numbers of replicas, fastest first; `points`: how many were
    estimated."""

    best: ReplicaPoint
    others: list[ReplicaPoint]
    points: int

    @property
    def why(self) -> str:
        """What limits the best point: what stops another slot, and what a pass waits for."""
        return f"{self.best.binding}; a pass by {self.best.limited_by}"


def room(part: Part, replicas: int) -> Cells:
    """What a part has for each of so many replicas. Raises `TritapeError` where regions cannot be shared out."""
    if replicas < 1 or part.regions % replicas:
        raise TritapeError(
            f"replicas must divide the {part.regions} regions of {part.name}, not {replicas!r}; take a divisor"
        )
    return Cells(*(number // replicas for number in (part.luts, part.luts, part.brams, part.urams, part.dsps)))


def replica_point(
    shape: ModelConfig, config: Config, replicas: int, part: Part, clock: float, bandwidth: float,
    read_ahead: float, latency: float,
) -> ReplicaPoint:  # fmt: skip
    """The numbers of `replicas` of one configuration on a part; bandwidth and read_ahead are of the whole card."""
    there = room(part, replicas)
    numbers = estimate_tokens(shape, config, clock, bandwidth / replicas, read_ahead / replicas, latency)
    placed = place(config, there)
    return ReplicaPoint(
        config, replicas, replicas * numbers["tokens_per_second"], numbers["roofline_fraction"], numbers["limited_by"],
        placed, placed.cells.share(there), _binding(config, there),
    )  # fmt: skip


def _binding(config: Config, there: Cells) -> str:
    """What another slot would lack."""
    if config.batch == MAX_BATCH:
        return f"T: a replica has at most {MAX_BATCH} slots"
    cells = place(replace(config, batch=config.batch + 1), there).cells
    name = binding(cells, there)
    need, limit = cells.share(there)[name], LIMITS[name]
    if need <= limit:
        return f"T: {config.batch} was asked for"
    return f"{NAMES[name]}: T = {config.batch + 1} needs {need:.1%}, {limit:.0%} may be used"


def choose_replicas(
    shape: ModelConfig,
    part: Part,
    clock: float,
    bandwidth: float,
    stream_rate: float = 0.0,
    read_ahead: float | None = None,
    latency: float | None = None,
    batch: int | None = None,
    replicas: int | None = None,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> ReplicaChoice:
    """The E, G, F, T and replicas with the most tokens a second, each stream with at least `stream_rate`; of those within
    `TOLERANCE` of the fastest, the one that uses least of its scarcest resource.

    clock: Hz; bandwidth: bytes a second of the card, which replicas share, as they share its regions; read_ahead, latency: as of
    `estimate_tokens`, by default `memory_defaults`. batch: T, by default as many as fit, 2 to `MAX_BATCH`; replicas: by default
    any that divide the regions. A word is one that the host link carries. Area: `tritape.rtl_gen.ultrascale`, within its
    `LIMITS`. The clock is an assumption.

    Raises `TritapeError` when nothing fits or no stream is fast enough.
    """
    if batch is not None and not 2 <= batch <= MAX_BATCH:
        raise TritapeError(f"batch must be 2..{MAX_BATCH} for {part.name}, not {batch!r}; choose another number")
    if replicas is not None:
        room(part, replicas)
    ahead, first = memory_defaults(clock, bandwidth)
    ahead, first = ahead if read_ahead is None else read_ahead, first if latency is None else latency
    numbers = [n for n in range(1, part.regions + 1) if part.regions % n == 0 and replicas in (None, n)]
    found: list[ReplicaPoint] = []
    fastest = quickest = 0.0
    for limit, number, config in _fastest_first(shape, part, clock, bandwidth, numbers, batch):
        if limit < fastest * (1 - TOLERANCE):
            break
        made = replica_point(shape, config, number, part, clock, bandwidth, ahead, first)
        quickest = max(quickest, made.stream_rate)
        if made.stream_rate >= stream_rate:
            found.append(made)
            fastest = max(fastest, made.rate)
        progress(len(found), len(found))
    if not quickest:
        raise TritapeError(
            f"part must hold replicas with {batch or 2} slots of this shape, not {part.name}; choose a larger part or fewer slots"
        )
    if not found:
        raise TritapeError(
            f"stream rate must be at most {quickest:.1f} tokens a second on {part.name}, not {stream_rate:g}; ask for less"
        )
    best = min(
        (made for made in found if made.rate >= fastest * (1 - TOLERANCE)), key=lambda made: (made.use, -made.rate)
    )
    return ReplicaChoice(best, _others(found, best), len(found))


def _others(found: list[ReplicaPoint], best: ReplicaPoint) -> list[ReplicaPoint]:
    """The fastest of each other (replicas, E), fastest first."""
    others: dict[tuple[int, int], ReplicaPoint] = {}
    for made in sorted(found, key=lambda made: -made.rate):
        if made != best:
            others.setdefault((made.replicas, made.config.engines), made)
    return list(others.values())


def _fastest_first(
    shape: ModelConfig, part: Part, clock: float, bandwidth: float, numbers: Sequence[int], batch: int | None
) -> Iterator[tuple[float, int, Config]]:
    """(bound of the rate, replicas, configuration) of all that fit, from the highest bound on. Memories are placed only for those
    whose turn comes: until then T is what the logic alone allows."""
    heap: list[tuple[float, int, float, int, Config, bool]] = []
    order = count()
    for replicas in numbers:
        there = room(part, replicas)
        for config in candidates(shape, bandwidth / replicas / clock):
            one = replicas * rate_bound(shape, config, clock, bandwidth / replicas)
            slots = batch or min(MAX_BATCH, most_slots(config, there))
            heappush(heap, (-one * slots, next(order), one, replicas, config, False))
    while heap:
        limit, _, one, replicas, config, placed = heappop(heap)
        if placed:
            yield -limit, replicas, config
            continue
        slots = _slots(config, room(part, replicas), batch)
        if slots:
            made = replace(config, batch=slots)
            heappush(heap, (-one * slots, next(order), one, replicas, made, True))


def candidates(shape: ModelConfig, demand: float) -> Iterator[Config]:
    """One slot of each E, G and F whose word is between `LEAST_WORD` of `demand` bytes a cycle and a line of the memory."""
    line = min(2 ** ceil(log2(demand) - 1e-9), DATA_BYTES)
    for engines in ENGINES:
        for groups in range(engines * -(-4 // engines), 256, engines):
            if LEAST_WORD * demand <= engines * groups <= line:
                for fillers in FILLERS:
                    if fillers <= groups // engines:
                        yield Config.for_model(shape, groups, fillers, engines).limited_to(shape)


def _slots(config: Config, there: Cells, batch: int | None) -> int:
    """`batch` if so many fit, or as many as fit where it is None; 0 if fewer than two."""

    def fit(slots: int) -> bool:
        return used(place(replace(config, batch=slots), there).cells, there) <= 1

    if batch is not None:
        return batch if fit(batch) else 0
    low, high = 1, min(MAX_BATCH, most_slots(config, there))
    while low < high:
        middle = (low + high + 1) // 2
        low, high = (middle, high) if fit(middle) else (low, middle - 1)
    return low if low > 1 else 0
