"""Several tokens a pass in simulation: steps of `TrackAccelerator`, each track checked against the integer golden model."""

from __future__ import annotations

import struct
from collections.abc import Callable, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np

from tritape.host.tracks import Entry, check_chains, prompt_steps
from tritape.hw.accelerator import COUNTERS, PROBES
from tritape.hw.config import Config
from tritape.model import arith
from tritape.model.arith import Ints
from tritape.model.errors import TritapeError
from tritape.model.golden import IntegerModel, Trace
from tritape.model.quantised import QuantisedModel
from tritape.model.tape.assembler import image
from tritape.rtl_gen.estimate import estimate_tokens
from tritape.sim.fast.build import build_model
from tritape.sim.fast.runner import Process
from tritape.sim.fast.top import verilog

MAIN = Path(__file__).parent / "fast" / "tracks.cpp"
MAX_TRACKS = 8
"""As many as the C++ main names ports for."""
_PATIENCE = 1 << 31


class TrackSimulation:
    """`TrackAccelerator` in Verilator behind a memory of one word a cycle, which `set_memory` may make stall at random.

    Built once per content and cached; `progress(line)` follows the build. Raises `TritapeError` for fewer than 2 or more than
    `MAX_TRACKS` tracks, and for what `check_chains` refuses.
    """

    def __init__(self, config: Config, progress: Callable[[str], None] | None = None) -> None:
        if not 2 <= config.tracks <= MAX_TRACKS:
            raise TritapeError(
                f"tracks must be 2..{MAX_TRACKS} to be simulated, not {config.tracks!r}; choose another number"
            )
        self.config = config
        defines = {"ENGINES": config.engines, "TRACKS": config.tracks}
        self._process = Process(
            build_model(verilog(config, link=False), "top", MAIN, defines=defines, progress=progress)
        )

    def __enter__(self) -> TrackSimulation:
        return self

    def __exit__(self, kind: type[BaseException] | None, value: BaseException | None, tb: TracebackType | None) -> None:
        self._process.close()

    def boot(self, tape: bytes, stall: float = 0.0) -> None:
        """Put a tape into memory, which stalls in this share of all cycles, and read its header: once in a simulation."""
        self._call("M", struct.pack("<II", self.config.word_bytes, round(1024 * stall)) + tape)
        configured, fault = self._call("B", struct.pack("<I", 1_000_000))
        if not configured:
            raise TritapeError(f"tape must be accepted, not refused with fault {fault}; make it for this configuration")

    def sampler(self, track: int, inv_temperature: int, seed: int) -> None:
        """Set a track's sampler."""
        self._call("T", struct.pack("<BII", track, inv_temperature, seed))

    def step(self, entries: Sequence[Entry | None]) -> list[int]:
        """Run one entry a track, None where it has nothing to do: what each track chose."""
        check_chains(entries, self.config.tracks)
        payload = struct.pack("<I", _PATIENCE)
        for entry in entries:
            flags = 0 if entry is None else entry.fresh + 2 * entry.chain + 4
            token = 0 if entry is None else entry.token
            assert token is not None, "give the token itself"
            payload += struct.pack("<HB", token, flags)
        return list(struct.unpack(f"<{self.config.tracks}H", self._call("S", payload)))

    def read_state(self, track: int) -> Ints:
        """The recurrent state of a track, all of its memory, by address."""
        count = self.config.engines * self.config.lane(self.config.max_hidden) * self.config.max_layers
        return np.frombuffer(self._call("R", struct.pack("<BII", track, 0, count)), "<i4").astype(np.int64)

    def write_state(self, track: int, state: Ints) -> None:
        """Store what `read_state` gave, perhaps of another track."""
        self._call("W", struct.pack("<BI", track, 0) + state.astype("<i4").tobytes())

    def counters(self) -> dict[str, int]:
        """`COUNTERS`, cycles and tokens counted by steps."""
        return dict(zip(COUNTERS, struct.unpack(f"<{len(COUNTERS)}I", self._call("K")), strict=True))

    def clear_probes(self) -> None:
        """Forget what the probes saw."""
        self._call("C")

    def probe(self, track: int, name: str) -> Ints:
        """What a track's probe saw since `clear_probes`."""
        return np.frombuffer(self._call("P", bytes([track, PROBES.index(name)])), "<i4").astype(np.int64)

    def _call(self, operation: str, payload: bytes = b"") -> bytes:
        return self._process.call(ord(operation), payload)[1]


class TrackRunner:
    """Sequences on the tracks of a simulation, every element checked against the golden model (`check` False: none is).

    `difference` is the first that was found, or None. `state[track]` of the golden model is what the track's memory must hold.
    """

    def __init__(
        self, simulation: TrackSimulation, model: QuantisedModel, *, stall: float = 0.0, check: bool = True
    ) -> None:
        config = simulation.config
        self.simulation, self.check = simulation, check
        self._golden = IntegerModel(model)
        self.states = [self._golden.state.copy() for _ in range(config.tracks)]
        self._samplers = [(0, arith.XORSHIFT_DEFAULT)] * config.tracks
        self.difference: str | None = None
        simulation.boot(image(model, config.groups, config.max_rows, config.engines), stall)

    def sampler(self, track: int, inv_temperature: int, seed: int) -> None:
        """Set a track's sampler."""
        self._samplers[track] = inv_temperature, seed or arith.XORSHIFT_DEFAULT
        self.simulation.sampler(track, inv_temperature, seed)

    def step(self, entries: Sequence[Entry | None]) -> list[int]:
        """Run a step, and check it: what each track chose."""
        self.simulation.clear_probes()
        chosen = self.simulation.step(entries)
        if self.check:
            for track in _order(entries):
                self._compare(track, entries, chosen[track])
        return chosen

    def prefill(self, track: int, prompt: Sequence[int], *, fresh: bool) -> tuple[int, int]:
        """Run a prompt on all tracks, the state beginning on `track`: the track that has it then, and the token it chose."""
        steps, end = prompt_steps(prompt, track, self.simulation.config.tracks, fresh=fresh)
        chosen = [self.step(entries) for entries in steps]
        return end, chosen[-1][end]

    def _compare(self, track: int, entries: Sequence[Entry | None], chosen: int) -> None:
        entry, golden, trace = entries[track], self._golden, Trace()
        assert entry is not None
        golden.state = self.states[track - 1 if entry.chain else track].copy()
        if entry.fresh:
            golden.state[:] = 0
        assert entry.token is not None
        logits = golden.step(entry.token, trace)
        self.states[track] = golden.state
        inv_temperature, generator = self._samplers[track]
        expected, generator = arith.choose(logits, inv_temperature, generator)
        self._samplers[track] = inv_temperature, generator
        seen = {name: self.simulation.probe(track, name) for name in PROBES}
        difference = trace.first_difference(seen, self.simulation.config.engines)
        if difference is None and chosen != expected:
            difference = f"token must be {expected}, not {chosen}"
        if difference is not None:
            self.difference = self.difference or f"track {track}: {difference}"


def _order(entries: Sequence[Entry | None]) -> list[int]:
    """Active tracks, each behind the one that it starts from."""
    count = len(entries)
    starts = [track for track, entry in enumerate(entries) if entry is not None and not entry.chain]
    ordered = []
    for start in starts:
        track, entry = start, entries[start]
        while entry is not None:
            ordered.append(track)
            track = (track + 1) % count
            entry = entries[track] if entries[track] is not None and entries[track].chain else None  # type: ignore[union-attr]
    return ordered


def measure(
    model: QuantisedModel, config: Config, seed: int = 0, progress: Callable[[str], None] | None = None
) -> dict[str, Any]:
    """Two steps of independent tokens and two of a prompt on an ideal memory, against golden and cycle model; JSON-ready.

    `measured_cycles` and what belongs to it are of the second independent step, `prompt_cycles` of the second prompt step.
    """
    tracks = config.tracks
    ids = np.random.default_rng(seed).integers(0, model.config.vocab_size, (2, tracks)).tolist()
    with TrackSimulation(config, progress) as simulation:
        runner = TrackRunner(simulation, model)

        def run(entries: Sequence[Entry | None]) -> dict[str, int]:
            before = simulation.counters()
            runner.step(entries)
            return {name: value - before[name] for name, value in simulation.counters().items()}

        for first, tokens in zip((True, False), ids):
            spent = run([Entry(token, fresh=first) for token in tokens])
        for number, tokens in enumerate(ids):  # the second prompt step goes on where the first one ended
            start = -number % tracks
            entries: list[Entry | None] = [None] * tracks
            for offset, token in enumerate(tokens):
                entries[(start + offset) % tracks] = Entry(token, fresh=number + offset == 0, chain=offset > 0)
            prompt = run(entries)
    estimated = estimate_tokens(model.config, config, 1.0, None)
    cycles = spent["running"]
    return {
        "lanes": tracks,
        "groups": config.groups,
        "engines": config.engines,
        "measured_cycles": cycles,
        "prompt_cycles": prompt["running"],
        "cycles_per_token": cycles / tracks,
        "prompt_cycles_per_token": prompt["running"] / tracks,
        "estimated_cycles": estimated["cycles_per_step"],
        "estimate_error": estimated["cycles_per_step"] / cycles - 1,
        "prompt_estimate_error": estimated["cycles_per_step"] / prompt["running"] - 1,
        "ideal_cycles": estimated["ideal_cycles"],
        "roofline_fraction": estimated["ideal_cycles"] / cycles,
        "memory_bytes_per_cycle": config.word_bytes,
        "bit_exact": runner.difference is None,
        "difference": runner.difference,
        "streaming_cycles": spent["streaming"],
        "stall_cycles": {name.removeprefix("stall_"): n for name, n in spent.items() if name.startswith("stall")},
        "crc_errors": spent["crc_errors"],
    }
