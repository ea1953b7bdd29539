"""Several tokens a pass: the parts, and what is refused (whole steps: tests/test_sim_batch.py)."""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np
import pytest
from amaranth.hdl import Module, Signal
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out
from test_hw_mlgru import parameter_words
from test_hw_reader import CONFIGURATION

from tritape.base.errors import TritapeError
from tritape.hw.batch.token_loop import BatchTokenLoop
from tritape.hw.commands import MLGRUMode
from tritape.hw.config import Config
from tritape.hw.mixer.mlgru import MLGRU
from tritape.hw.stream.broadcast import Broadcast
from tritape.hw.stream.pulse_join import PulseJoin
from tritape.hw.tape.reader import SlotRequest, TapeReader
from tritape.hw.token_loop import TokenLoop
from tritape.model import arith
from tritape.sim.bench import SIMULATORS, check_streams

BATCH = 3


def test_one_slot_has_the_hash_that_routed_bitstreams_report():
    assert Config().hash64() == 0x3BD060BFAD40BEF3
    small = Config(groups=8, max_hidden=128, max_intermediate=384, max_layers=4, max_vocab=512)
    assert small.hash64() == 0x21BF33330426AA04
    assert len({Config(batch=batch).hash64() for batch in (1, 2, 3)}) == 3


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Config(batch=0), "^batch must be an integer in 1..16, not 0; keep within that range$"),
        (lambda: Config(batch=17), "^batch must be an integer in 1..16, not 17; keep within that range$"),
        (
            lambda: Config(batch=2, serial=True),
            "^batch must be 1 in a serial configuration, not 2; take away one of the two$",
        ),
        (
            lambda: TokenLoop(Config(batch=2)),
            "^batch must be 1 here, not 2; several slots have a BatchTokenLoop$",
        ),
        (lambda: BatchTokenLoop(Config()), "^batch must be at least 2 here, not 1; one slot has a TokenLoop$"),
    ],
)
def test_refuses(make, message: str):
    with pytest.raises(TritapeError, match=message):
        make()


@pytest.mark.parametrize("simulator", SIMULATORS)
def test_broadcast_waits_for_the_last_receiver(simulator: str):
    elements = np.random.default_rng(1).integers(0, 256, 60).tolist()
    targets = [f"targets.{index}" for index in range(BATCH)]
    result = check_streams(
        Broadcast(8, BATCH),
        inputs={"source": elements},
        expected=dict.fromkeys(targets, elements),
        simulator=simulator,
    )
    last = np.max([result.transfers[name] for name in targets], axis=0)
    assert last.tolist() == result.transfers["source"]


class Pulses(wiring.Component):
    """A `PulseJoin` whose pulses are transfers; `joined` as a stream that must not stall."""

    def __init__(self) -> None:
        ports = {f"unit_{index}": In(stream.Signature(1)) for index in range(BATCH)}
        super().__init__({**ports, "joined": Out(stream.Signature(1))})

    def elaborate(self, _platform: object) -> Module:
        m = Module()
        m.submodules.join = join = PulseJoin(BATCH)
        for index in range(BATCH):
            unit = getattr(self, f"unit_{index}")
            m.d.comb += [unit.ready.eq(1), join.pulses[index].eq(unit.valid)]
        m.d.comb += self.joined.valid.eq(join.joined)
        return m


def test_a_unit_too_far_ahead_ends_the_simulation():
    with pytest.raises(RuntimeError, match="no unit's pulses must be more than 3 before another's"):
        check_streams(
            Pulses(),
            inputs={"unit_0": [0] * 5, "unit_1": [], "unit_2": []},
            expected={"joined": []},
            input_stall=0,
        )


def test_joined_pulses_are_as_many_as_the_slowest_gave():
    units = [f"unit_{index}" for index in range(BATCH)]
    ahead = PulseJoin.AHEAD
    result = check_streams(
        Pulses(),
        inputs={name: [0] * 30 for name in units},
        expected={"joined": [0] * 30},
        after={name: [(n, "joined", n - ahead + 1) for n in range(ahead, 30)] for name in units},
        input_stall=0.5,
        output_stall=0,
    )
    last = np.max([result.transfers[name] for name in units], axis=0)
    assert (np.array(result.transfers["joined"]) == last + PulseJoin.LATENCY).all()


class Reading(wiring.Component):
    """A reader for several slots, `finished` as a stream; the step beside each request."""

    def __init__(self) -> None:
        step = data.ArrayLayout(SlotRequest, BATCH)
        seen = data.StructLayout({"address": 32, "length": 32, "step": step})
        super().__init__(
            {
                **{name: In(32) for name in CONFIGURATION},
                "boot": In(stream.Signature(1)),
                "finish": In(stream.Signature(1)),
                "tokens": In(stream.Signature(step)),
                "requests": Out(stream.Signature(seen)),
            }
        )

    def elaborate(self, _platform: object) -> Module:
        m = Module()
        m.submodules.reader = reader = TapeReader(16, batch=BATCH)
        wiring.connect(m, wiring.flipped(self.boot), reader.boot)
        wiring.connect(m, wiring.flipped(self.tokens), reader.tokens)
        m.d.comb += [getattr(reader, name).eq(getattr(self, name)) for name in CONFIGURATION]
        m.d.comb += [
            reader.configured.eq(1),
            self.finish.ready.eq(1),
            reader.finished.eq(self.finish.valid),
            self.requests.valid.eq(reader.requests.valid),
            self.requests.payload.address.eq(reader.requests.payload.address),
            self.requests.payload.length.eq(reader.requests.payload.length),
            self.requests.payload.step.eq(reader.step),
            reader.requests.ready.eq(self.requests.ready),
        ]
        return m


def test_reader_asks_for_a_row_a_slot():
    rng = np.random.default_rng(3)
    values = {name: int(value) for name, value in zip(CONFIGURATION, rng.integers(1, 1 << 20, 6))}
    values["row_words"] = 65
    steps = [
        [
            {
                "token": int(rng.integers(0, 1 << 16)),
                **{name: int(rng.integers(2)) for name in ("fresh", "chain", "active")},
            }
            for _ in range(BATCH)
        ]
        for _ in range(4)
    ]
    nothing = [dict.fromkeys(("token", "fresh", "chain", "active"), 0)] * BATCH
    prologue = (values["prologue_address"], values["prologue_words"])
    expected = [((0, 2 + 4 + 1), nothing), (prologue, nothing)]
    for step in steps:
        rows = [(values["embedding_address"] + entry["token"] * 65, 65) for entry in step]
        expected += [(part, step) for part in (*rows, (values["body_address"], values["body_words"]), prologue)]
    per_step = BATCH + 2
    check_streams(
        Reading(),
        inputs={"boot": [1], "finish": [0] * 4, "tokens": steps},
        expected={"requests": [{"address": a, "length": n, "step": step} for (a, n), step in expected]},
        statics=values,
        after={"finish": [(n, "requests", 2 + per_step * (n + 1)) for n in range(4)]},
    )


class Ring(wiring.Component):
    """Chained MLGRUs, each giving to the next; their first commands wait for the lower bound of `needed` words."""

    def __init__(self) -> None:
        self._units = [MLGRU(4, 64, 2, chained=True) for _ in range(BATCH)]
        members = self._units[0].signature.members
        names = ("commands", "parameters", "values", "elements")
        super().__init__(
            {f"{name}_{index}": members[name] for name in names for index in range(BATCH)}
            | {"needed": In(16), "chain": In(BATCH), "active": In(BATCH)}
        )

    def elaborate(self, _platform: object) -> Module:
        m = Module()
        for index, unit in enumerate(self._units):
            following = (index + 1) % len(self._units)
            m.submodules[f"unit_{index}"] = unit
            for name in ("parameters", "values", "elements"):
                wiring.connect(m, wiring.flipped(getattr(self, f"{name}_{index}")), getattr(unit, name))
            wiring.connect(m, unit.after, self._units[following].before)
            commands, words, loaded = (
                getattr(self, f"commands_{index}"),
                unit.parameters,
                Signal(16, name=f"loaded_{index}"),
            )
            with m.If(words.valid & words.ready):
                m.d.sync += loaded.eq(loaded + 1)
            start = loaded == self.needed
            m.d.comb += [
                unit.commands.payload.eq(commands.payload),
                unit.commands.valid.eq(commands.valid & start),
                commands.ready.eq(unit.commands.ready & start),
                unit.chain.eq(self.chain[index]),
                unit.active.eq(self.active[index]),
                unit.give.eq(self.chain[following]),
            ]
        return m


@pytest.mark.parametrize(
    ("chain", "active"),
    [([0, 1, 1], [1, 1, 1]), ([1, 0, 1], [1, 1, 1]), ([0, 0, 1], [1, 0, 1]), ([0, 0, 0], [0, 1, 1])],
)
def test_states_go_from_slot_to_slot(chain: list[int], active: list[int]):
    """Two layers, three tokens a slot: each state is what the one before it made of the same token step."""
    check_chain(chain, active)


def test_a_slot_that_is_late_loses_nothing():
    """The first slot runs at full rate until the queue to the second is full, which has not begun with its mode F."""
    late = [(LENGTH, "values_2", 2 * LENGTH + 40)]  # the third runs by itself
    check_chain([0, 1, 0], [1, 1, 1], after={"values_1": late}, input_stall=0, output_stall=0)


LENGTH = 61
ring = cache(Ring)  # once: elaborating it takes longer than the simulation


def check_chain(chain: list[int], active: list[int], **options: Any) -> None:
    rng = np.random.default_rng(sum(chain))
    length, count = LENGTH, len(chain)
    bound = rng.integers(0, 32769, length)
    memory = np.zeros((count, 2, length), dtype=np.int64)
    commands, values = [], [[] for _ in chain]
    elements: list[list[int]] = [[] for _ in chain]
    order = [t for first in range(count) if not chain[first] for t in _chained(first, chain)]
    for _token in range(3):
        for layer in range(2):
            base, shift = layer * length, 13 + layer
            commands += [
                {
                    "mode": mode.value,
                    "length": length,
                    "base": base,
                    "shift": shift,
                    "fresh": 1,
                }  # which has no effect here
                for mode in MLGRUMode
            ]
            made = {}
            for slot in order:
                i, f, g = rng.integers(-20000, 20001, (3, length))
                old = made[(slot - 1) % count] if chain[slot] else memory[slot, layer]
                made[slot] = arith.recur(arith.forget_gate(f, bound), old, arith.silu(i))
                if active[slot]:
                    memory[slot, layer] = made[slot]
                values[slot] += [*i.tolist(), *f.tolist(), *g.tolist()]
                products = arith.rescale(g, arith.silu(memory[slot, layer]), shift)
                elements[slot] += arith.sat18(products).tolist()
    words = parameter_words(bound, 4)
    inputs = {f"commands_{t}": commands for t in range(count)} | {f"parameters_{t}": words for t in range(count)}
    check_streams(
        ring(),
        inputs=inputs | {f"values_{t}": values[t] for t in range(count)},
        expected={f"elements_{t}": elements[t] for t in range(count)},
        statics={"needed": len(words), "chain": _bits(chain), "active": _bits(active)},
        seed=sum(active),
        **options,
    )


def _bits(flags: list[int]) -> int:
    return sum(flag << place for place, flag in enumerate(flags))


def _chained(first: int, chain: list[int]) -> list[int]:
    """`first` and the slots that follow from it."""
    slots = [first]
    while chain[(slots[-1] + 1) % len(chain)]:
        slots.append((slots[-1] + 1) % len(chain))
    return slots
