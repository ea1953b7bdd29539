"""Several tokens a pass: the parts, and what is refused (whole steps: tests/test_sim_tracks.py)."""

from __future__ import annotations

import numpy as np
import pytest
from amaranth.hdl import Module, Signal
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out
from test_hw_mlgru import parameter_words
from test_hw_reader import CONFIGURATION

from tritape.hw.accelerator import Accelerator
from tritape.hw.config import Config
from tritape.hw.mixer.mlgru import MLGRU, Mode
from tritape.hw.tape.reader import TapeReader, TrackRequest
from tritape.hw.tracks.accelerator import TrackAccelerator
from tritape.hw.tracks.broadcast import Broadcast
from tritape.hw.tracks.pulse_join import PulseJoin
from tritape.model import arith
from tritape.model.errors import TritapeError
from tritape.sim.bench import SIMULATORS, check_streams

TRACKS = 3


def test_one_track_has_the_hash_that_routed_bitstreams_report():
    assert Config().hash64() == 0x3BD060BFAD40BEF3
    small = Config(groups=8, max_hidden=128, max_intermediate=384, max_layers=4, max_vocab=512)
    assert small.hash64() == 0x21BF33330426AA04
    assert len({Config(tracks=tracks).hash64() for tracks in (1, 2, 3)}) == 3


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Config(tracks=0), "^tracks must be an integer in 1..16, not 0; keep within that range$"),
        (lambda: Config(tracks=17), "^tracks must be an integer in 1..16, not 17; keep within that range$"),
        (
            lambda: Config(tracks=2, serial=True),
            "^tracks must be 1 in a serial configuration, not 2; take away one of the two$",
        ),
        (
            lambda: Accelerator(Config(tracks=2)),
            "^tracks must be 1 in an accelerator with a host link, not 2; several have",
        ),
        (lambda: TrackAccelerator(Config()), "^tracks must be at least 2 here, not 1; one track is an Accelerator$"),
    ],
)
def test_refuses(make, message: str):
    with pytest.raises(TritapeError, match=message):
        make()


@pytest.mark.parametrize("simulator", SIMULATORS)
def test_broadcast_waits_for_the_last_receiver(simulator: str):
    elements = np.random.default_rng(1).integers(0, 256, 60).tolist()
    targets = [f"targets.{index}" for index in range(TRACKS)]
    result = check_streams(
        Broadcast(8, TRACKS),
        inputs={"source": elements},
        expected=dict.fromkeys(targets, elements),
        simulator=simulator,
    )
    last = np.max([result.transfers[name] for name in targets], axis=0)
    assert last.tolist() == result.transfers["source"]


class Pulses(wiring.Component):
    """A `PulseJoin` whose pulses are transfers; `joined` as a stream that must not stall."""

    def __init__(self) -> None:
        ports = {f"unit_{index}": In(stream.Signature(1)) for index in range(TRACKS)}
        super().__init__({**ports, "joined": Out(stream.Signature(1))})

    def elaborate(self, _platform: object) -> Module:
        m = Module()
        m.submodules.join = join = PulseJoin(TRACKS)
        for index in range(TRACKS):
            unit = getattr(self, f"unit_{index}")
            m.d.comb += [unit.ready.eq(1), join.pulses[index].eq(unit.valid)]
        m.d.comb += self.joined.valid.eq(join.joined)
        return m


def test_joined_pulses_are_as_many_as_the_slowest_gave():
    units = [f"unit_{index}" for index in range(TRACKS)]
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
    """A reader for several tracks, `finished` as a stream; the step beside each request."""

    def __init__(self) -> None:
        step = data.ArrayLayout(TrackRequest, TRACKS)
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
        m.submodules.reader = reader = TapeReader(16, tracks=TRACKS)
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


def test_reader_asks_for_a_row_a_track():
    rng = np.random.default_rng(3)
    values = {name: int(value) for name, value in zip(CONFIGURATION, rng.integers(1, 1 << 20, 6))}
    values["row_words"] = 65
    steps = [
        [
            {
                "token": int(rng.integers(0, 1 << 16)),
                **{name: int(rng.integers(2)) for name in ("fresh", "chain", "active")},
            }
            for _ in range(TRACKS)
        ]
        for _ in range(4)
    ]
    nothing = [dict.fromkeys(("token", "fresh", "chain", "active"), 0)] * TRACKS
    prologue = (values["prologue_address"], values["prologue_words"])
    expected = [((0, 2 + 4 + 1), nothing), (prologue, nothing)]
    for step in steps:
        rows = [(values["embedding_address"] + entry["token"] * 65, 65) for entry in step]
        expected += [(part, step) for part in (*rows, (values["body_address"], values["body_words"]), prologue)]
    per_step = TRACKS + 2
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
        self._units = [MLGRU(4, 64, 2, chained=True) for _ in range(TRACKS)]
        members = self._units[0].signature.members
        names = ("commands", "parameters", "values", "elements")
        super().__init__(
            {f"{name}_{index}": members[name] for name in names for index in range(TRACKS)}
            | {"needed": In(16), "chain": In(TRACKS), "active": In(TRACKS)}
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
def test_states_go_from_track_to_track(chain: list[int], active: list[int]):
    """Two layers, three tokens a track: each state is what the one before it made of the same token step."""
    rng = np.random.default_rng(sum(chain))
    length, count = 61, len(chain)
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
                for mode in Mode
            ]
            made = {}
            for track in order:
                i, f, g = rng.integers(-20000, 20001, (3, length))
                old = made[(track - 1) % count] if chain[track] else memory[track, layer]
                made[track] = arith.recur(arith.forget_gate(f, bound), old, arith.silu(i))
                if active[track]:
                    memory[track, layer] = made[track]
                values[track] += [*i.tolist(), *f.tolist(), *g.tolist()]
                products = arith.rescale(g, arith.silu(memory[track, layer]), shift)
                elements[track] += arith.sat18(products).tolist()
    words = parameter_words(bound, 4)
    inputs = {f"commands_{t}": commands for t in range(count)} | {f"parameters_{t}": words for t in range(count)}
    check_streams(
        Ring(),
        inputs=inputs | {f"values_{t}": values[t] for t in range(count)},
        expected={f"elements_{t}": elements[t] for t in range(count)},
        statics={"needed": len(words), "chain": _bits(chain), "active": _bits(active)},
        seed=sum(active),
    )


def _bits(flags: list[int]) -> int:
    return sum(flag << place for place, flag in enumerate(flags))


def _chained(first: int, chain: list[int]) -> list[int]:
    """`first` and the tracks that follow from it."""
    tracks = [first]
    while chain[(tracks[-1] + 1) % len(chain)]:
        tracks.append((tracks[-1] + 1) % len(chain))
    return tracks
