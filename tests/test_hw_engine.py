"""The ternary-accumulate core against the integer golden model: every row, every saturation, every cycle."""

from __future__ import annotations

import functools
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest
from amaranth.hdl import Module
from amaranth.lib import wiring
from amaranth.lib.wiring import Out

from tritape.base.errors import TritapeError
from tritape.hw.config import Config
from tritape.hw.engine.choice import engine_of, fill_cycles
from tritape.hw.engine.engine import pipeline_cycles
from tritape.model import arith
from tritape.model.tape.assembler import encode_block
from tritape.model.tape.reader import decode_block
from tritape.sim.bench import SIMULATORS, BenchResult, check_streams

STATUS = ("streaming", "wait_output", "wait_weights", "wait_tables", "wait_activations")


one_engine = functools.cache(engine_of)
"""Elaborating it takes longer than most of the simulations: once for each configuration."""


@dataclass
class Work:
    """Inputs of an engine and the rows they must give; blocks are appended one by one."""

    config: Config
    rng: np.random.Generator = field(default_factory=lambda: np.random.default_rng(1))
    commands: list[dict[str, int]] = field(default_factory=list)
    weights: list[int] = field(default_factory=list)
    rows: list[list[int]] = field(default_factory=list)
    saturated: int = 0

    def __post_init__(self) -> None:
        self.activations: list[list[dict[str, int]]] = [[] for _ in range(self.config.engines)]

    def vector(self, q: np.ndarray) -> np.ndarray:
        """Send activations q [K]; returns them."""
        lanes = np.zeros(-(-len(q) // self.config.engines) * self.config.engines, dtype=np.int64)
        lanes[: len(q)] = q
        for lane, values in enumerate(lanes.reshape(-1, self.config.engines).T):
            self.activations[lane] += [
                {"value": int(v), "last": int(k == len(values) - 1)} for k, v in enumerate(values)
            ]
        return q

    def block(self, trits: np.ndarray, q: np.ndarray, release: bool) -> None:
        """Multiply trits [rows, K] by q [K]."""
        rows, length = trits.shape
        tiles = -(-length // self.config.tile)
        geometry = self.config.geometry
        data, slices = encode_block(trits, geometry), geometry.lane(rows)
        step = geometry.word_bytes
        self.weights += [int.from_bytes(data[at : at + step], "little") for at in range(0, len(data), step)]
        self.commands.append({"tiles": tiles, "rows": slices, "release": int(release)})
        sums = arith.row_sums(trits.astype(np.float32), q.astype(np.int64))
        # Rows that pad the last slice: 0, or what the code has for them.
        padding = decode_block(data, geometry, slices * self.config.engines, length)[rows:]
        padded = arith.row_sums(padding.astype(np.float32), q.astype(np.int64))
        lanes = np.concatenate([arith.sat18(sums), arith.sat18(padded)])
        self.rows += lanes.reshape(slices, -1).tolist()
        self.saturated += arith.count_saturated(sums)

    def random(self, rows: int, length: int) -> np.ndarray:
        if self.config.code == "ternary5":
            return self.rng.integers(-1, 2, (rows, length), dtype=np.int8)
        return random_sparse4(self.rng, rows, length)

    def check(self, engine: wiring.Component | None = None, **options: Any) -> BenchResult:
        return check_streams(
            engine or one_engine(self.config),
            inputs={
                **{f"activations.{lane}": elements for lane, elements in enumerate(self.activations)},
                "commands": self.commands,
                "weights": self.weights,
            },
            expected={"rows": self.rows},
            **options,
        )


def random_sparse4(rng: np.random.Generator, rows: int, length: int) -> np.ndarray:
    """Any 3:4 weights [rows, length]."""
    fours = rng.choice([-1, 1], (rows, -(-length // 4), 4)).astype(np.int8)
    np.put_along_axis(fours, rng.integers(0, 4, (*fours.shape[:2], 1)), 0, axis=2)
    return fours.reshape(rows, -1)[:, :length].copy()


def small(groups: int, tables: int = 2, engines: int = 1) -> Config:
    return Config(
        groups, tables, engines, max_hidden=700, max_intermediate=700, max_layers=1, max_vocab=256, max_rows=512
    )


@pytest.mark.parametrize("simulator", SIMULATORS)
@pytest.mark.parametrize(
    ("groups", "tables", "engines"),
    [
        (4, 1, 1),
        (5, 2, 1),
        (13, 2, 1),
        (16, 2, 1),
        (26, 4, 1),
        (4, 1, 2),
        (9, 2, 3),
        (5, 1, 5),
        pytest.param(16, 3, 4, marks=pytest.mark.long),
    ],
)
def test_rows_are_exact(groups: int, tables: int, engines: int, simulator: str) -> None:
    work = Work(small(groups, tables, engines))
    tile = work.config.tile
    # (length, rows of each block of this vector)
    for length, blocks in [
        (3 * tile - 7, (1, 3, 1)),
        (1, (2,)),
        (5 * tile, (3,)),
        (tile, (1, 4, 7)),
        (2 * tile + 1, (140, 5)),
    ]:
        q = work.vector(work.rng.integers(-127, 128, length))
        for index, rows in enumerate(blocks):
            work.block(work.random(rows, length), q, release=index == len(blocks) - 1)
    work.check(simulator=simulator, seed=groups)


@pytest.mark.parametrize("simulator", SIMULATORS)
@pytest.mark.parametrize("engines", [1, 2])
@pytest.mark.parametrize("stalls", [(0.0, 0.0), (0.0, 0.8), (0.0, 0.995), (0.8, 0.0)])
def test_short_blocks_at_every_pace(stalls: tuple[float, float], engines: int, simulator: str) -> None:
    """Blocks of 1 to 7 rows, several tiles. At 0.995 both banks are full when the rows move on: a partial sum is wanted
    in the cycle after its word, and a bank must not be filled again before its last word was read."""
    work = Work(small(4, 1, engines))
    q = work.vector(work.rng.integers(-127, 128, 4 * work.config.tile - 3))
    for rows in (1, 2, 3, 4, 5, 1, 1, 1, 2, 3, 1, 2, 4, 4, 5, 6, 4, 7, 5):
        work.block(work.random(rows, len(q)), q, release=False)
    work.check(simulator=simulator, input_stall=stalls[0], output_stall=stalls[1])


@pytest.mark.parametrize("engines", [1, 4])
@pytest.mark.parametrize("simulator", SIMULATORS)
def test_saturates_symmetrically(simulator: str, engines: int) -> None:
    """Sums around and far beyond +/-131071, -131072 among them; zero weights and zero activations too."""
    config = Config(16, 2, engines, max_hidden=2048, max_intermediate=2048, max_layers=1, max_vocab=256, max_rows=64)
    work = Work(config)
    q = work.vector(np.full(2048, 127))
    trits = np.ones((12, 2048), dtype=np.int8)
    trits[1::2] = -1
    for row in range(2, 10):  # 1032 * 127 = 131064 is the last sum in range
        trits[row, 1030 + row // 2 :] = 0
    trits[11] = 0
    work.block(trits, q, release=True)
    exact = np.full(1040, 127)
    exact[1032] = 8  # 131072, and 131071 with one element of 7
    exact[1033] = 7
    exact[1034:] = 0
    work.vector(exact)
    ends = np.zeros((5, 1040), dtype=np.int8)
    ends[:, :1032] = np.array([1, -1, 1, -1, 0])[:, None]
    ends[:2, 1032] = [1, -1]
    ends[2:4, 1033] = [1, -1]
    work.block(ends, exact, release=True)
    work.vector(np.zeros(5, dtype=int))
    work.block(work.random(3, 5), np.zeros(5, dtype=int), release=True)
    assert max(abs(row) for lanes in work.rows for row in lanes) == arith.VALUE_MAX
    assert work.saturated >= 8
    counted(work, simulator=simulator)


class Counted(wiring.Component):
    """The engine, and how many cycles each of its one-bit outputs was high; `clash` counts cycles with not exactly one state."""

    def __init__(self, config: Config) -> None:
        self.engine = engine_of(config)
        streams = {name: self.engine.signature.members[name] for name in ("activations", "commands", "weights", "rows")}
        super().__init__({**streams, "counts": Out(16).array(len(STATUS) + 2)})

    def elaborate(self, platform: object) -> Module:
        m = Module()
        m.submodules.engine = engine = self.engine
        for lane, activations in zip(self.activations, engine.activations):
            wiring.connect(m, wiring.flipped(lane), activations)
        for name in ("commands", "weights"):
            wiring.connect(m, wiring.flipped(getattr(self, name)), getattr(engine, name))
        wiring.connect(m, engine.rows, wiring.flipped(self.rows))
        states = [getattr(engine, name) for name in STATUS]
        events = [*states, engine.saturated, sum(states) != 1]
        m.d.sync += [count.eq(count + event) for count, event in zip(self.counts, events)]
        return m


def counted(work: Work, **options: Any) -> BenchResult:
    """Check the rows, and that saturations, words and states were reported as they were."""
    finals = {"counts.0": len(work.weights), f"counts.{len(STATUS)}": work.saturated, f"counts.{len(STATUS) + 1}": 0}
    return work.check(Counted(work.config), finals=finals, **options)


@pytest.mark.parametrize("engines", [1, 2])
def test_one_word_every_cycle_across_tiles_and_blocks(engines: int) -> None:
    """As many slices as a filling takes cycles: once streaming, no cycle without a word."""
    config = small(6, 1, engines)
    work, rows = Work(config), fill_cycles(config) * engines
    q = work.vector(work.rng.integers(-127, 128, 3 * config.tile))
    work.block(work.random(rows, len(q)), q, release=False)
    work.block(work.random(rows, len(q)), q, release=True)
    q = work.vector(work.rng.integers(-127, 128, 2 * config.tile - 3))
    work.block(work.random(rows + 7, len(q)), q, release=True)
    taken = counted(work, input_stall=0, output_stall=0).transfers["weights"]
    assert taken == list(range(taken[0], taken[0] + len(taken)))


@pytest.mark.parametrize(("groups", "tables", "engines"), [(4, 1, 1), (5, 2, 1), (13, 3, 1), (6, 2, 3)])
def test_fill_and_pipeline_cycles(groups: int, tables: int, engines: int) -> None:
    """Blocks of one row: the time between tiles is the fill time, from word to row the pipeline's."""
    config = small(groups, tables, engines)
    work = Work(config)
    q = work.vector(work.rng.integers(-127, 128, 3 * config.tile))
    work.block(work.random(1, len(q)), q, release=False)
    work.block(work.random(1, len(q)), q, release=True)
    result = work.check(input_stall=0, output_stall=0)
    taken, rows = result.transfers["weights"], result.transfers["rows"]
    assert [row - word for row, word in zip(rows, taken[2::3])] == [pipeline_cycles(config)] * 2
    # Two tiles were filled before; between blocks the command costs a cycle more than between tiles.
    assert np.diff(taken)[1:].max() == fill_cycles(config)


@pytest.mark.parametrize("simulator", SIMULATORS)
def test_vectors_arrive_while_blocks_stream(simulator: str) -> None:
    """Three vectors through two buffers: the third waits for the release of the first."""
    work = Work(small(4))
    for length in (3 * work.config.tile, 7, 45):
        q = work.vector(work.rng.integers(-127, 128, length))
        work.block(work.random(9, length), q, release=False)
        work.block(work.random(2, length), q, release=True)
    counted(work, simulator=simulator, input_stall=0.1, output_stall=0.5)


def test_config_refuses_what_cannot_be_built() -> None:
    with pytest.raises(TritapeError, match=r"^groups must be an integer in 4\.\.255, not 3; keep within that range$"):
        Config(groups=3)
    with pytest.raises(
        TritapeError, match=r"^tables_per_filler must be an integer in 1\.\.16, not 17; keep within that range$"
    ):
        Config(tables_per_filler=17)
    config = Config()
    assert (config.tile, config.max_length, config.max_tiles, config.state_elements) == (80, 4096, 52, 24576)
    assert config.hash64() == Config().hash64() != Config(groups=13).hash64()
