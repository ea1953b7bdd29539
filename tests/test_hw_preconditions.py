"""Each precondition of the units from engine to head ends the simulation with its sentence when a neighbour breaks it."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from operator import attrgetter
from typing import Any

import pytest
from amaranth.hdl import Fragment, UnusedElaboratable
from amaranth.lib import wiring
from amaranth.sim import Simulator

from tritape.hw.commands import MLGRUMode, ResidualMode
from tritape.hw.config import Config
from tritape.hw.engine.activation_memory import ActivationMemory
from tritape.hw.engine.row_accumulator import RowAccumulator
from tritape.hw.engine.sparse_activations import SparseActivations
from tritape.hw.engine.sparse_filler import SparseFiller
from tritape.hw.engine.table_filler import TableFiller
from tritape.hw.head.argmax import Argmax
from tritape.hw.head.head import Head
from tritape.hw.head.row_serialiser import RowSerialiser
from tritape.hw.head.sampler import Sampler
from tritape.hw.mixer.mlgru import MLGRU
from tritape.hw.mixer.residual import Residual
from tritape.hw.mixer.state_memory import StateMemory
from tritape.hw.norm.dequantiser import Dequantiser
from tritape.hw.norm.gain_memory import GainMemory
from tritape.hw.norm.rescale import Rescale
from tritape.hw.norm.rmsnorm import RMSNorm
from tritape.hw.norm.scalar import Scalar
from tritape.hw.norm.vector_scalar import VectorScalar
from tritape.hw.vector.alu import ALU
from tritape.model.tape.layout import Target

SPARSE = Config(5, code="sparse4", max_hidden=40, max_intermediate=60, max_layers=2, max_vocab=97, max_rows=8)

SMALL = Config(groups=4, max_hidden=40, max_intermediate=60, max_layers=2, max_vocab=97, max_rows=8)

Step = dict[str, Any]


def command(**fields: int) -> Step:
    return {"commands.payload": fields, "commands.valid": 1}


def _element(unit: wiring.Component, path: str) -> Any:
    """`operands[0].valid` of `unit`."""
    array, rest = path.split("[")
    index, member = rest.split("].")
    return attrgetter(member)(getattr(unit, array)[int(index)])


def simulate(unit: wiring.Component, steps: list[Step]) -> None:
    """Four cycles for each step, which sets ports (path -> value) that keep their values."""

    async def drive(context: Any) -> None:
        for step in steps:
            for path, value in step.items():
                place = attrgetter(path)(unit) if "[" not in path else _element(unit, path)
                context.set(place, value)
            for _ in range(4):
                await context.tick()

    simulator = Simulator(Fragment.get(unit, "simulation"))
    simulator.add_clock(1e-6)
    simulator.add_testbench(drive)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UnusedElaboratable)
        simulator.run()


WORD = {"word": 0, "bank": 0, "first": 0}
GAIN = {"word": 0, "target": Target.GAIN_FIRST, "bank": 0, "first": 1}
NORM = {"length": 4, "bank": 0, "keep": 0, "eps": 0, "mantissa": 0, "exponent": 0}
FORGET = {"mode": MLGRUMode.FORGET, "length": 9, "base": 0, "shift": 0, "fresh": 0}
OPERANDS = {"maximum": 9, "square_sum": 0, "eps": 0, "mantissa": 5, "exponent": 0}

# unit, steps that keep its rules, the step that breaks one, the rule's sentence
CASES: dict[str, tuple[Callable[[], wiring.Component], list[Step], Step, str]] = {
    "alu shift": (ALU, [{"valid": 1, "shift": 47}], {"shift": 48}, "shift must be 0..47"),
    "rescale shift": (
        Rescale,
        [{"operands.payload": {"raw": 0, "factor": 0, "shift": 47}, "operands.valid": 1}],
        {"operands.payload": {"raw": 0, "factor": 0, "shift": 48}},
        "`shift` must be 0..47",
    ),
    "dequantiser rows": (
        Dequantiser,
        [command(rows=1, pattern=0, take=0, destination=0, last=1)],
        command(rows=0, pattern=0, take=0, destination=0, last=1),
        "`rows` must be 1..65535",
    ),
    "gain words": (
        lambda: GainMemory(4, 6, 2),
        [{"words.payload": {**WORD, "first": 1}, "words.valid": 1}, {"words.payload": WORD, "words.valid": 0}],
        {"words.valid": 1},
        "there must be no more words than a bank holds",
    ),
    "gain length": (
        lambda: GainMemory(4, 10, 2),
        [{"reads.payload": {"bank": 0, "length": 10}, "reads.valid": 1}],
        {"reads.payload": {"bank": 0, "length": 11}},
        "`length` must be 1..max_length",
    ),
    "norm bank": (
        lambda: RMSNorm(4, 10),
        [{"parameters.payload": GAIN, "parameters.valid": 1}, {"parameters.valid": 0, **command(**NORM)}],
        {"parameters.valid": 1},
        "a bank must not be written from a command that reads it until",
    ),
    "scalar mantissa": (
        lambda: Scalar(small=True),
        [{"operands.payload": OPERANDS, "operands.valid": 1}, *[{"operands.valid": 0}] * 12],
        {"operands.payload": {**OPERANDS, "mantissa": 6}},
        "`mantissa` must stay until the reciprocal is taken",
    ),
    "lanes together": (
        lambda: VectorScalar(2),
        [{"operands[0].valid": 1, "operands[1].valid": 1}],
        {"operands[1].valid": 0},
        "statistics of the lanes must come in the same cycle",
    ),
    "lower bound": (
        lambda: MLGRU(4, 40, 2),
        [
            {"parameters.payload": {"word": 0, "first": 1}, "parameters.valid": 1},
            {"parameters.valid": 0},
            command(**FORGET),
        ],
        {"parameters.valid": 1},
        "parameters must not come while a mode F is running",
    ),
    "states": (
        lambda: MLGRU(4, 40, 2),
        [{"state_access": 1}, {"state_access": 0, **command(**FORGET)}],
        {"state_access": 1},
        "the host must not have access while a command is under way",
    ),
    "state address": (
        lambda: StateMemory(80),
        [{"write": 1, "write_address": 79}],
        {"write_address": 80},
        "a write must not go to an address past the depth",
    ),
    "residual length": (
        lambda: Residual(40, 60),
        [command(mode=ResidualMode.STORE, region=1, length=60)],
        command(mode=ResidualMode.STORE, region=0, length=41),
        "`length` must be 1..size of the region",
    ),
    "release": (
        lambda: ActivationMemory(SMALL),
        [{"activations.payload": {"value": 0, "last": 0}, "activations.valid": 1}],
        {"release": 1},
        "a vector must not be released before its `last` was taken",
    ),
    "tiles": (
        lambda: TableFiller(SMALL),
        [command(tiles=3, rows=8, release=0)],
        command(tiles=4, rows=8, release=0),
        "`tiles` must be 1..max_tiles",
    ),
    "rows of a block": (
        lambda: TableFiller(SMALL),
        [command(tiles=3, rows=8, release=0)],
        command(tiles=3, rows=9, release=0),
        "`rows` must be 1..max_rows / E",
    ),
    "sparse release": (
        lambda: SparseActivations(SPARSE),
        [{"activations[0].payload": {"value": 0, "last": 0}, "activations[0].valid": 1}],
        {"release": 1},
        "a vector must not be released before its `last` was taken",
    ),
    "sparse tiles": (
        lambda: SparseFiller(SPARSE),
        [command(tiles=SPARSE.max_tiles, rows=8, release=0)],
        command(tiles=SPARSE.max_tiles + 1, rows=8, release=0),
        "`tiles` must be 1..max_tiles",
    ),
    "sparse rows": (
        lambda: SparseFiller(SPARSE),
        [command(tiles=1, rows=8, release=0)],
        command(tiles=1, rows=9, release=0),
        "`rows` must be 1..max_rows / E",
    ),
    "hazard": (
        lambda: RowAccumulator(SMALL, 14),
        [{"valid": 1, "first": 1, "row": 3}],
        {"first": 0},
        "the same row must not come again within `HAZARD_CYCLES` advanced cycles unless `first`",
    ),
    "argmax": (
        lambda: Argmax(4),
        [{"scores.payload": {"score": 0, "last": 1}, "scores.valid": 1, "winner.ready": 1}],
        {"scores.payload": {"score": 0, "last": 0}},
        "a vector must not be longer than max_rows",
    ),
    "head": (lambda: Head(97), [command(rows=97)], command(rows=98), "`rows` must be at most max_vocab"),
    "serialiser": (lambda: RowSerialiser(2, 4), [command(rows=1)], command(rows=0), "`rows` must be 1 or more"),
    "temperature": (
        Sampler,
        [{"inv_temperature": 7}, {"logits.valid": 1}],
        {"inv_temperature": 8},
        "inv_temperature must not change while elements are inside",
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_broken_precondition_ends_the_simulation(name: str) -> None:
    make, good, bad, text = CASES[name]
    simulate(make(), good)
    with pytest.raises(AssertionError) as caught:
        simulate(make(), [*good, bad])
    assert text in str(caught.value)
