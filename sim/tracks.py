"""Several tokens a pass in simulation: steps of `LinkedTracks`, each track checked against the integer golden model."""

from __future__ import annotations

from collections.abc import Sequence

from tritape.host import protocol
from tritape.host.device import Device
from tritape.host.tracks import Entry, Step, prompt_steps
from tritape.hw.accelerator import PROBES
from tritape.model import arith
from tritape.model.errors import TritapeError
from tritape.model.golden import IntegerModel, Trace
from tritape.model.quantised import QuantisedModel
from tritape.model.tape.assembler import image
from tritape.sim.generate import RETRY_S, Simulation


class TrackRunner:
    """Sequences on the tracks of a simulated accelerator, through its host link: every element of every track that has a token is
    compared with the golden model. What `Generator` is for one track.

    Attributes: `device`, which runs nothing else; `difference`, the first that was found, with its track, or None;
    `states[track]` of the golden model, which the track's memory must hold.
    Raises `TritapeError` for one track, a tape that is refused, and what `check_chains` refuses.
    """

    def __init__(self, simulation: Simulation, model: QuantisedModel) -> None:
        config = simulation.config
        if config.tracks < 2:
            raise TritapeError(f"tracks must be at least 2 here, not {config.tracks!r}; one track has a Generator")
        self._simulation, self._engines = simulation, config.engines
        self._golden = IntegerModel(model)
        self.states = [self._golden.state.copy() for _ in range(config.tracks)]
        self._samplers = [(0, arith.XORSHIFT_DEFAULT)] * config.tracks
        self._chosen = [0] * config.tracks
        self.difference: str | None = None
        simulation.set_memory(image(model, config.groups, config.max_rows, config.engines), config.word_bytes)
        self.device = Device(simulation, retry_s=RETRY_S)
        self.device.boot()
        assert self.device.tracks is not None
        self._tracks = self.device.tracks

    def sampler(self, track: int, inv_temperature: int, seed: int) -> None:
        """Set a track's sampler."""
        self._samplers[track] = inv_temperature, seed or arith.XORSHIFT_DEFAULT
        self._tracks.sampler(track, inv_temperature, seed)

    def step(self, entries: Step) -> list[int]:
        """Run a step, and check it: what each track chose, no meaning where it has no entry."""
        device = self.device
        self._simulation.clear_probes()
        self._tracks.load(device.position, [entries])
        device.position += 1
        rows: list[tuple[int, ...]] = []
        while not rows:
            reply, rows = self._tracks.poll(device.position, device.position + 1, [], 1)
            if not rows and not reply.running:
                raise TritapeError(protocol.STOPPED)
        before, self._chosen = self._chosen, list(rows[0])
        for track in _order(entries):
            entry = entries[track]
            assert entry is not None
            self._compare(track, entry, before[track] if entry.token is None else entry.token)
        return list(self._chosen)

    def prefill(self, track: int, prompt: Sequence[int], *, fresh: bool) -> tuple[int, int]:
        """Run a prompt on all tracks, the state beginning on `track`: the track that has it then, and the token it chose."""
        steps, end = prompt_steps(prompt, track, self._tracks.count, fresh=fresh)
        chosen = [self.step(entries) for entries in steps]
        return end, chosen[-1][end]

    def _compare(self, track: int, entry: Entry, token: int) -> None:
        """Compare what a track did with its token in this step with the golden model."""
        golden, trace = self._golden, Trace()
        golden.state = self.states[track - 1 if entry.chain else track].copy()
        if entry.fresh:
            golden.state[:] = 0
        logits = golden.step(token, trace)
        self.states[track] = golden.state
        inv_temperature, generator = self._samplers[track]
        expected, generator = arith.choose(logits, inv_temperature, generator)
        self._samplers[track] = inv_temperature, generator
        seen = {name: self._simulation.probe(name, track) for name in PROBES}
        difference = trace.first_difference(seen, self._engines)
        if difference is None and self._chosen[track] != expected:
            difference = f"token must be {expected}, not {self._chosen[track]}"
        if difference is not None:
            self.difference = self.difference or f"track {track}: {difference}"


def _order(entries: Step) -> list[int]:
    """Active tracks, each behind the one that it starts from."""
    count = len(entries)
    ordered = []
    for start, first in enumerate(entries):
        if first is None or first.chain:
            continue
        ordered.append(start)
        track = (start + 1) % count
        while (entry := entries[track]) is not None and entry.chain:
            ordered.append(track)
            track = (track + 1) % count
    return ordered
