"""The engine of `sparse4` against the integer golden model: every row, every saturation, every cycle."""

from __future__ import annotations

import numpy as np
import pytest
from test_hw_engine import Work, counted

from tritape.base.errors import TritapeError
from tritape.hw.config import Config
from tritape.hw.engine.choice import engine_of, fill_cycles
from tritape.hw.engine.engine import pipeline_cycles
from tritape.hw.engine.sparse_activations import batches, fillers
from tritape.hw.engine.sparse_engine import SparseEngine
from tritape.hw.engine.sparse_filler import SparseFiller
from tritape.model import arith


def small(groups: int, tables: int = 2, engines: int = 1, **fields: object) -> Config:
    limits = {"max_hidden": 700, "max_intermediate": 700, "max_layers": 1, "max_vocab": 256, "max_rows": 512}
    return Config(groups, tables, engines, code="sparse4", **{**limits, **fields})  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("groups", "tables", "engines", "block", "simulator"),
    [
        (5, 1, 1, False, "icarus"),
        (10, 2, 2, True, "icarus"),
        (20, 4, 4, False, "icarus"),
        *(
            pytest.param(*point, simulator, marks=pytest.mark.long)
            for simulator in ("verilator", "icarus")
            for point in [(5, 8, 1, True), (15, 4, 1, False), (25, 5, 1, False), (10, 16, 2, False), (20, 4, 4, True)]
        ),
    ],
)
def test_rows_are_exact(groups: int, tables: int, engines: int, block: bool, simulator: str) -> None:
    work = Work(small(groups, tables, engines, block_tables=block))
    tile = work.config.tile
    # (length, rows of each block of this vector); lengths that are no multiple of four, odd rows
    for length, blocks in [
        (3 * tile - 7, (1, 3, 1)),
        (1, (2,)),
        (5 * tile, (3,)),
        (tile, (1, 4, 7)),
        (tile - 2, (5,)),
        (2 * tile + 1, (140, 5)),
    ]:
        q = work.vector(work.rng.integers(-127, 128, min(length, 700)))
        for index, rows in enumerate(blocks):
            work.block(work.random(rows, len(q)), q, release=index == len(blocks) - 1)
    work.check(simulator=simulator, seed=groups)


@pytest.mark.parametrize("engines", [1, pytest.param(2, marks=pytest.mark.long)])
@pytest.mark.parametrize("stalls", [(0.0, 0.0), (0.0, 0.8), (0.0, 0.995), (0.8, 0.0)])
def test_short_blocks_at_every_pace(stalls: tuple[float, float], engines: int) -> None:
    """Blocks of 1 to 7 rows, several tiles: a bank must not be filled again before its last word was read."""
    work = Work(small(5 * engines, 1, engines))
    q = work.vector(work.rng.integers(-127, 128, 4 * work.config.tile - 3))
    for rows in (1, 2, 3, 4, 5, 1, 1, 1, 2, 3, 1, 2, 4, 4, 5, 6, 4, 7, 5):
        work.block(work.random(rows, len(q)), q, release=False)
    work.check(input_stall=stalls[0], output_stall=stalls[1])


@pytest.mark.parametrize("engines", [1, pytest.param(4, marks=pytest.mark.long)])
def test_extreme_values_and_saturation(engines: int) -> None:
    """All of one sign at +/-127: sums of three at both ends of an entry, and rows beyond +/-131071."""
    work = Work(small(10 if engines == 1 else 20, 2, engines, max_hidden=2048, max_intermediate=2048, max_rows=64))
    q = work.vector(np.full(2047, 127))
    rows = np.abs(work.random(8, 2047))
    rows[1::2] *= -1
    rows[2:4] = work.random(2, 2047)
    work.block(rows, q, release=True)
    q = work.vector(np.where(work.rng.random(402) < 0.5, -127, 127))
    aligned = work.random(5, 402)
    aligned[:3] = np.abs(aligned[:3]) * np.sign(q).astype(np.int8) * np.array([[1], [-1], [1]], np.int8)
    work.block(aligned, q, release=True)
    q = work.vector(np.zeros(5, dtype=int))
    work.block(work.random(3, 5), q, release=True)
    assert max(abs(row) for lanes in work.rows for row in lanes) == arith.VALUE_MAX
    assert work.saturated >= 6
    counted(work)


def test_every_code_with_every_activation_its_own() -> None:
    """All 32 codes in each table, with activations that tell all sums apart."""
    work = Work(small(5, 1))
    q = work.vector(np.array([1, 3, 9, 27] * 8) * np.repeat([1, -1, 2, -2, 3, -3, 4, -4], 4))
    codes = work.config.weight_code.decode(np.arange(32, dtype=np.uint8))
    work.block(np.tile(codes, (1, 8)), q, release=True)
    work.check()


@pytest.mark.parametrize(
    ("groups", "tables", "engines"),
    [
        (5, 1, 1),
        *(pytest.param(*point, marks=pytest.mark.long) for point in [(10, 1, 1), (15, 8, 1), (20, 4, 2)]),
    ],
)
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
    # By the second block the vector is there; between blocks the command costs a cycle more than between tiles.
    assert np.diff(taken)[2:].tolist() == [fill_cycles(config) + 1, fill_cycles(config), fill_cycles(config)]


@pytest.mark.long
def test_one_word_every_cycle_and_the_first_soon() -> None:
    """As many slices as a filling takes: no cycle without a word. The first word comes a fixed time behind the last activation:
    a batch of 16 steps, the fillers' stagger and the pipeline."""
    config = small(10, 2)
    work, rows = Work(config), max(fill_cycles(config), config.tile) + 1
    q = work.vector(work.rng.integers(-127, 128, 3 * config.tile))
    work.block(work.random(rows, len(q)), q, release=False)
    work.block(work.random(rows, len(q)), q, release=True)
    result = counted(work, input_stall=0, output_stall=0)
    taken, activations = result.transfers["weights"], result.transfers["activations.0"]
    assert taken == list(range(taken[0], taken[0] + len(taken)))
    first = activations[config.tile - 1] + SparseFiller.START_CYCLES + SparseFiller.STEPS
    assert taken[0] == first + fillers(config) + SparseFiller.OVERHEAD_CYCLES - 1


def test_fillers_and_what_cannot_be_built() -> None:
    assert [(fillers(c), batches(c)) for c in (small(5, 1), small(25, 1), small(25, 12), small(20, 32))] == [
        (8, 1), (8, 5), (2, 20), (1, 32),
    ]  # fmt: skip
    assert isinstance(engine_of(small(5)), SparseEngine)
    with pytest.raises(TritapeError, match=r"^groups must be a multiple of 5 with code sparse4, not 16; try 20$"):
        Config(code="sparse4")
    with pytest.raises(TritapeError, match=r"^engines must divide the 4 weights of a code of sparse4, not be 5; try 1"):
        Config(20, engines=5, code="sparse4")
    with pytest.raises(TritapeError, match=r"^code must be one of ternary5, sparse4, not 'int4'; choose one of them$"):
        Config(code="int4")
    with pytest.raises(TritapeError, match=r"^block_tables must be False with code ternary5, not True; "):
        Config(block_tables=True)
    assert small(5).hash64() != small(5, block_tables=True).hash64()
