"""What a replica costs on an UltraScale+ card: LUTs fitted to Yosys, each memory in LUT RAM, block RAM or UltraRAM.

A replica is one `AXIAccelerator` with its T slots. `benchmarks/card_area.py` synthesises slots and replicas; the constants
here are fitted to some of those points, and tests/test_rtl_gen_ultrascale.py holds the error at the others.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

from tritape.hw.config import Config
from tritape.hw.engine.activation_memory import fillers
from tritape.rtl_gen.choose import FIFO_LINES
from tritape.rtl_gen.footprint import memories, memory_blocks

LIMITS = {"luts": 0.65, "lut_ram": 0.25, "brams": 0.80, "urams": 0.80, "dsps": 0.80}
"""Of a region that a design may use. LUTs: what ternip found routable at 300 MHz on a U250. The others: a usual guideline, as of
Vivado's `report_failfast`; `lut_ram` is a share of all LUTs."""
NAMES = {"luts": "LUT", "lut_ram": "LUT RAM", "brams": "block RAM", "urams": "UltraRAM", "dsps": "DSP"}
ROMS = ("script", "sigma", "Gumbel noise")
"""Memories of constants: UltraRAM cannot hold them, since it begins with zeros."""
URAM_WIDTH, URAM_DEPTH = 72, 4096
PORT_BYTES = 64
"""Of a line of a port to DDR4."""

SLOT, LANE, TABLE, FILLER, BANK = 855.0, 1810.0, 28.1, 10.5, 9.8
"""LUT6s of logic of a slot: fixed, of a lane, of a table with its adder, of a filler, of a bank of states. The sum is fitted to
two points; its parts are in the ratio of the LUT4s of synthesised ECP5 netlists (`tritape.rtl_gen.footprint`)."""
REPLICA, WORD = 1544.0, 37.4
"""LUT6s of logic of link, reader and sequencer: fixed, and of a byte of a word; LUT4s of the same netlists in the same ratio."""
PORT = 1500.0
"""LUT6s of a memory port of 512 bits with its share of the gearbox and of the register link: an estimate, not synthesised."""


@dataclass(frozen=True)
class Cells:
    """Resources: of a replica, or what there is of them. `luts` has those of `lut_ram` in it."""

    luts: int
    lut_ram: int
    brams: int
    urams: int
    dsps: int

    def share(self, there: Cells) -> dict[str, float]:
        """Of `there`, by resource; LUT RAM of all its LUTs."""
        total = {name: getattr(there, name) for name in NAMES} | {"lut_ram": there.luts}
        return {name: getattr(self, name) / total[name] for name in NAMES}


@dataclass(frozen=True)
class Placed:
    """A replica whose memories have places: of each (name, how many, "LUT RAM", "block RAM" or "UltraRAM"); a name may come
    twice."""

    cells: Cells
    places: list[tuple[str, int, str]]


def slot_luts(config: Config) -> float:
    """LUT6s of logic of one slot."""
    engines, tables = config.engines, config.word_bytes
    banks = sum(count for name, count, _, _ in memories(config) if name == "states") / config.batch
    return SLOT + LANE * engines + TABLE * tables + FILLER * engines * fillers(config) + BANK * banks


def shared_luts(config: Config) -> float:
    """LUT6s of logic of what a replica has once: link, reader, sequencer, memory ports."""
    return REPLICA + WORD * config.word_bytes + PORT * ports(config)


def ports(config: Config) -> int:
    """Memory ports of a replica: one for each `PORT_BYTES` of its word."""
    return -(-config.word_bytes // PORT_BYTES)


def distributed(width: int, depth: int, *, rom: bool = False) -> tuple[int, int]:
    """(LUTs of LUT RAM, LUTs of logic that choose between them) of a memory with one read and one write port: 7 bits of 64
    words or 14 of 32 in eight LUTs, as RAM64M8 and RAM32M16; constants are logic."""
    if rom:
        return 0, width * -(-depth // 64) + _choose(width, -(-depth // 64))
    if depth <= 32:
        return 8 * -(-width // 14), 0
    deep = -(-depth // 64)
    return 8 * -(-width // 7) * deep, _choose(width, deep)


def _choose(width: int, ways: int) -> int:
    """LUT6s of a multiplexer: one chooses of four."""
    return width * -(-(ways - 1) // 3)


Amounts = tuple[int, int, int, int]
"""LUTs, those of LUT RAM among them, block RAMs, UltraRAMs."""


@dataclass(frozen=True)
class _Memory:
    """`count` equal memories, where they are, and what one costs in each place that it can be in."""

    name: str
    count: int
    place: str
    costs: dict[str, Amounts]

    @property
    def amounts(self) -> Amounts:
        """Of all of them."""
        luts, ram, brams, urams = self.costs[self.place]
        return self.count * luts, self.count * ram, self.count * brams, self.count * urams


def _all(config: Config) -> list[_Memory]:
    """In block RAM, but for the smallest; lines that the ports read ahead among them."""
    found = []
    ahead = ("read ahead", ports(config), 8 * PORT_BYTES, FIFO_LINES)
    for name, number, width, depth in [*memories(config), ahead]:
        ram, choosing = distributed(width, depth, rom=name in ROMS)
        blocks = memory_blocks(width, depth)
        # The tables' multiplexers are in the logic of a table, since Yosys put them there.
        costs = {"lut_ram": (ram + (0 if name == "table" else choosing), ram, 0, 0), "brams": (0, 0, blocks or 1, 0)}
        if name not in ROMS:
            costs["urams"] = 0, 0, 0, -(-width // URAM_WIDTH) * -(-depth // URAM_DEPTH)
        found.append(_Memory(name, number, "brams" if blocks else "lut_ram", costs))
    return found


def place(config: Config, there: Cells) -> Placed:
    """A replica of `config` with its memories where they leave most room on a region, or regions, that has `there`.

    Every memory begins in block RAM, but for the smallest. While another place lowers the share of the resource that is used
    most, of what may be used of it (`LIMITS`), the memory moves there whose move lowers it most; of a memory that does not go
    into UltraRAM whole, as many as there is room for. The result need not fit.
    """
    found = _all(config)
    dsps = config.batch * (2 + 13 * config.engines)
    allowed = [LIMITS[name] * value for name, value in zip(NAMES, (there.luts, there.luts, there.brams, there.urams))]
    sums = [sum(column) for column in zip(*(memory.amounts for memory in found))]
    sums[0] += round(config.batch * slot_luts(config) + shared_luts(config))

    def most(amounts: list[int]) -> float:
        return max(amount / limit for amount, limit in zip(amounts, allowed))

    while True:
        moves = [(most(_moved(sums, found[at], parts)), at, parts) for at, parts in _moves(found, allowed[3] - sums[3])]
        lowest, at, parts = min(moves, key=lambda move: move[0])
        if lowest >= most(sums):
            break
        sums = _moved(sums, found[at], parts)
        found[at : at + 1] = parts
    luts, ram, brams, urams = sums
    return Placed(
        Cells(luts, ram, brams, urams, dsps), [(memory.name, memory.count, NAMES[memory.place]) for memory in found]
    )


def _moved(sums: list[int], memory: _Memory, parts: list[_Memory]) -> list[int]:
    """`sums` with `parts` in the place of `memory`."""
    more = [sum(column) for column in zip(*(part.amounts for part in parts))]
    return [total - before + after for total, before, after in zip(sums, memory.amounts, more)]


def _moves(found: list[_Memory], free: float) -> Iterator[tuple[int, list[_Memory]]]:
    """(place in the list, what comes there) of every arrangement that differs by one memory's place; `free`: UltraRAMs."""
    for at, memory in enumerate(found):
        for other, (_, _, _, urams) in memory.costs.items():
            if other == memory.place:
                continue
            fitting = min(memory.count, int(free // urams)) if urams else memory.count
            if fitting == memory.count:
                yield at, [replace(memory, place=other)]
            elif fitting > 0:
                yield at, [replace(memory, count=fitting, place=other), replace(memory, count=memory.count - fitting)]


def most_slots(config: Config, there: Cells) -> int:
    """Slots whose logic alone the LUTs allow: never fewer than fit."""
    return int((LIMITS["luts"] * there.luts - shared_luts(config)) / slot_luts(config))


def used(cells: Cells, there: Cells) -> float:
    """Of what may be used of the resource that is used most; 1 or less fits."""
    share = cells.share(there)
    return max(share[name] / limit for name, limit in LIMITS.items())


def binding(cells: Cells, there: Cells) -> str:
    """The resource that is used most, of what may be used of it."""
    share = cells.share(there)
    return max(LIMITS, key=lambda name: share[name] / LIMITS[name])
