"""Which E x G for a shape, a memory and a part: all that can keep up with the memory, by the cycle model and the footprint."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any

from tritape.base.errors import TritapeError
from tritape.hw.config import Config
from tritape.model.codes import TERNARY5, WeightCode
from tritape.model.config import ModelConfig
from tritape.model.tape.layout import ternary_weights
from tritape.rtl_gen.estimate import estimate_tokens, padding
from tritape.rtl_gen.footprint import Footprint, footprint
from tritape.rtl_gen.parts import Part

TOLERANCE = 0.01
"""Points whose rates differ by no more are as fast as each other; then the smaller one is better."""
LUT_SHARE = 0.8
"""Of a part's LUTs that a design may use: beyond that few routes close, and the memory's controller needs some."""
WIDEST = 2.0
"""Bytes that an engine takes a cycle over those that the memory delivers, at most: more never helps (`docs/memory.md`)."""
FIFO_LINES = 512
"""Lines of each port that the backends read ahead (`AXIReader`)."""
LATENCY = 100.0
"""Cycles from a request to its first word of a DRAM behind AXI, about."""
_FILLERS = (1, 2, 4, 8)
_MAX_ENGINES = 32


@dataclass(frozen=True)
class Point:
    """A design point with its numbers: `rate` in tokens a second (projected), `share` of each resource of the part."""

    config: Config
    rate: float
    roofline: float
    limited_by: str
    cost: Footprint
    share: dict[str, float]

    @property
    def fits(self) -> bool:
        """The part has all of it."""
        return _fits(self.share)

    @property
    def scarcest(self) -> str:
        """The resource of which most is used."""
        return _scarcest(self.share)

    @property
    def name(self) -> str:
        """`E=4 G=16`, and the tables a filler where they are not 1."""
        fillers = f" F={self.config.tables_per_filler}" if self.config.tables_per_filler > 1 else ""
        block = ", tables in block RAM" if self.config.block_tables else ""
        return f"E={self.config.engines} G={self.config.groups}{fillers}{block}"

    def as_dict(self) -> dict[str, Any]:
        """JSON-ready."""
        return {
            "engines": self.config.engines,
            "groups": self.config.groups,
            "tables_per_filler": self.config.tables_per_filler,
            "tokens_per_second": self.rate,
            "roofline_fraction": self.roofline,
            "limited_by": self.limited_by,
            "luts_estimated": self.cost.luts,
            "block_rams": self.cost.brams,
            "dsps": self.cost.dsps,
            "share": self.share,
        }


@dataclass(frozen=True)
class Choice:
    """`best`; `others` that fit, fastest first, each with why it is not the best; `larger`: the fastest point of all if the part
    is too small for it and it would be faster, else None; `points`: how many were estimated."""

    best: Point
    others: list[tuple[Point, str]]
    larger: Point | None
    points: int

    @property
    def why(self) -> str:
        """What limits the best point."""
        if self.larger is not None:
            more = self.larger.rate / self.best.rate - 1
            need, name = self.larger.share[self.larger.scarcest], _NAMES[self.larger.scarcest]
            return f"area: {self.larger.name} would be {more:.0%} faster but needs {need:.0%} of the part's {name}"
        return self.best.limited_by


_NAMES = {"luts": "LUTs", "brams": "block RAMs", "dsps": "multipliers"}


def memory_defaults(clock: float, bandwidth: float) -> tuple[float, float]:
    """(bytes that a backend reads ahead, cycles to the first word) where the user says nothing: 512 lines of each port."""
    return FIFO_LINES * bandwidth / clock, LATENCY


def point(
    shape: ModelConfig, config: Config, part: Part, clock: float, bandwidth: float, read_ahead: float, latency: float
) -> Point:
    """The numbers of one configuration on a part."""
    numbers = estimate_tokens(shape, config, clock, bandwidth, read_ahead, latency)
    cost = footprint(config, part.lut_inputs)
    return Point(
        config,
        numbers["tokens_per_second"],
        numbers["roofline_fraction"],
        numbers["limited_by"],
        cost,
        _share(cost, part),
    )


def _share(cost: Footprint, part: Part) -> dict[str, float]:
    """Of the part, by resource."""
    return {"luts": cost.luts / part.luts, "brams": cost.brams / part.brams, "dsps": cost.dsps / part.dsps}


def _fits(share: dict[str, float]) -> bool:
    return _used(share) <= 1


def _scarcest(share: dict[str, float]) -> str:
    return max(share, key=lambda name: share[name] / (LUT_SHARE if name == "luts" else 1))


def _used(share: dict[str, float]) -> float:
    """Of what may be used of the scarcest resource."""
    name = _scarcest(share)
    return share[name] / (LUT_SHARE if name == "luts" else 1)


def choose(
    shape: ModelConfig,
    part: Part,
    clock: float,
    bandwidth: float,
    read_ahead: float | None = None,
    latency: float | None = None,
    batch: int = 1,
    progress: Callable[[int, int], None] = lambda done, total: None,
    code: WeightCode = TERNARY5,
) -> Choice:
    """The best E, G and tables a filler: of the points on the part within `TOLERANCE` of the fastest, the one that uses least of
    its scarcest resource.

    clock: Hz; bandwidth: bytes a second; read_ahead, latency: as of `estimate_tokens`, by default `memory_defaults`.
    Points that cannot be as fast as the best so far, whatever the dependencies, are not estimated. The memory's backend is
    not in the area, and no clock is checked: that is `tritape explore --route`.

    Raises `TritapeError` when nothing fits.
    """
    ahead, first = memory_defaults(clock, bandwidth)
    ahead, first = ahead if read_ahead is None else read_ahead, first if latency is None else latency
    demand = bandwidth / clock
    bounded = sorted(
        ((rate_bound(shape, config, clock, bandwidth), config) for config in candidates(shape, demand, batch, code)),
        key=lambda pair: (-pair[0], pair[1].word_bytes, pair[1].engines),
    )
    fitting: list[tuple[float, Config]] = []
    others: list[tuple[float, Config]] = []
    for bound, config in bounded:
        cost = footprint(config, part.lut_inputs)
        (fitting if _fits(_share(cost, part)) else others).append((bound, config))
    total = len(bounded)

    def search(some: list[tuple[float, Config]], enough: float) -> list[Point]:
        """Those that may be faster than `enough` and within `TOLERANCE` of the fastest of them, and some more."""
        found: list[Point] = []
        for bound, config in some:
            progress(len(found), total)
            if bound < enough * (1 - 3 * TOLERANCE):
                break
            found.append(point(shape, config, part, clock, bandwidth, ahead, first))
            enough = max(enough, found[-1].rate)
        return found

    if not fitting:
        least = min((_share(footprint(config, part.lut_inputs), part) for _, config in others), key=_used)
        raise TritapeError(
            f"part must hold an accelerator of this shape, not {part.name}: the smallest needs {_used(least):.0%} of what it may "
            "use; choose a larger part"
        )
    found = search(fitting, 0.0)
    fastest = max(made.rate for made in found)
    best = min(
        (made for made in found if made.rate >= fastest * (1 - TOLERANCE)),
        key=lambda made: (_used(made.share), -made.rate),
    )
    wider = search(others, fastest)
    larger = max(wider, key=lambda made: made.rate, default=None)
    order = sorted(found, key=lambda made: (-made.rate, _used(made.share)))
    return Choice(
        best,
        [(made, _against(made, best)) for made in order if made != best],
        larger if larger is not None and larger.rate > best.rate * (1 + TOLERANCE) else None,
        len(found) + len(wider),
    )


def candidates(shape: ModelConfig, demand: float, batch: int = 1, code: WeightCode = TERNARY5) -> Iterator[Config]:
    """Configurations of E engines of G tables that take up to `WIDEST` times `demand` bytes a cycle, but at least one."""
    if code is not TERNARY5:
        yield from _sparse_candidates(shape, demand, batch, code)
        return
    for engines in range(1, _MAX_ENGINES + 1):
        for groups in range(engines * -(-4 // engines), 256, engines):
            if engines * groups > max(4, WIDEST * demand):
                break
            for fillers in _FILLERS:
                if fillers <= groups // engines:
                    yield Config.for_model(shape, groups, fillers, engines, batch=batch).limited_to(shape)


def _sparse_candidates(shape: ModelConfig, demand: float, batch: int, code: WeightCode) -> Iterator[Config]:
    """The same in `sparse4`, with 8 or 4 fillers, tables in LUT RAM and in block RAM."""
    for engines in (1, 2, 4):
        step = math.lcm(engines, code.groups_step)
        for groups in range(step, 256, step):
            if engines * groups > max(code.groups_step, WIDEST * demand):
                break
            for fillers in (8, 4):
                config = Config.for_model(
                    shape, groups, code.tables(groups) // fillers, engines, batch=batch, code=code.name
                )
                for block_tables in (False, True):
                    yield replace(config, block_tables=block_tables).limited_to(shape)


def rate_bound(shape: ModelConfig, config: Config, clock: float, bandwidth: float) -> float:
    """Tokens a second without headers, fills and dependencies."""
    code = config.weight_code
    rate = min(bandwidth, config.word_bytes * clock) * (1 - padding(shape, config.groups, code))
    return config.batch * rate * code.weights_a_byte / ternary_weights(shape)


def _against(made: Point, best: Point) -> str:
    """Why `made` is not the best."""
    slower = 1 - made.rate / best.rate
    if slower > TOLERANCE:
        return f"{slower:.1%} slower: {made.limited_by}"
    name = made.scarcest
    return (
        f"as fast within {TOLERANCE:.0%}, {made.share[name]:.0%} of the {_NAMES[name]} against {best.share[name]:.0%}"
    )
