"""The token loop for several tokens a pass: one tape, one sequencer, and a track for each token."""

from __future__ import annotations

from amaranth.hdl import Cat, Module, Signal, Value, signed
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from tritape.hw.accelerator import COUNTERS, PROBES, ProbeSignature
from tritape.hw.config import Config
from tritape.hw.memory.signature import MemorySignature
from tritape.hw.tape.reader import TapeReader, TrackRequest
from tritape.hw.tape.sequencer import Sequencer
from tritape.hw.tracks.broadcast import Broadcast
from tritape.hw.tracks.pulse_join import PulseJoin
from tritape.hw.tracks.track import COMMANDS, Track
from tritape.hw.vector.ports import SATURATED
from tritape.model.errors import TritapeError

_REGISTERS = ("prologue_address", "prologue_words", "body_address", "body_words", "embedding_address", "row_words")
_WAITS = ("wait_output", "wait_tables", "wait_activations")  # the first that a track reports is counted


class TrackAccelerator(wiring.Component):
    """T tokens in, one pass over the tape, T tokens out; T is `config.tracks`, at least 2. With the host link: `LinkedTracks`.

    Ports
        memory: requests and words of a memory backend (its writes are the owner's).
        boot: In stream, one transfer after reset starts reading the tape. configured, fault, fault_code: its outcome.
        steps: In stream of T `TrackRequest`, taken when the results of the step before were taken; results: Out stream
            of T u16, what each track chose (no meaning where it was not active).
            `chain` needs the track before, in the ring of tracks, to be active; not all may chain.
        For each track, arrays of T: inv_temperature u17, which must not change while a step runs; seed u32 and reseed u1, as of
            `Sampler`. A track that is not active, or whose inv_temperature is 0, does not step its generator.
        state_access, state_address, state_write, state_data, state_value: as in `VectorSignature`, of `track`, only while no
            step runs. logits_enable, logits: the same, of `track`, which must not change meanwhile.
        counter_index, counter: `COUNTERS` of all tracks together, a cycle later; cycles and tokens count steps. A stall counts
            once, for the first of output, fill, dependency that any track has.
        running: a step runs. probe: T `ProbeSignature`.

    A step of one active track gives what `Accelerator` gives for its token; a chain gives what its tokens give one after the
    other. Cost: T engines and vector paths. Tested: T = 2, 3, E = 1, 2, independent and chained tokens, random memory stalls,
    bit for bit against the golden model (tests/test_hw_tracks.py). Raises `TritapeError` for one track.
    Source: docs/decisions/0006-token-lanes.md.
    """

    def __init__(self, config: Config, *, memory_words: int = (1 << 32) - 1) -> None:
        if config.tracks < 2:
            raise TritapeError(f"tracks must be at least 2 here, not {config.tracks!r}; one track is an Accelerator")
        self.config = config
        self.memory_words = memory_words
        tracks = config.tracks
        super().__init__(
            {
                "memory": In(MemorySignature(config.word_bytes)),
                "boot": In(stream.Signature(1)),
                "configured": Out(1),
                "fault": Out(1),
                "fault_code": Out(4),
                "steps": In(stream.Signature(data.ArrayLayout(TrackRequest, tracks))),
                "results": Out(stream.Signature(data.ArrayLayout(16, tracks))),
                "inv_temperature": In(17).array(tracks),
                "seed": In(32).array(tracks),
                "reseed": In(1).array(tracks),
                "track": In(range(tracks)),
                "state_access": In(1),
                "state_address": In(20),
                "state_write": In(1),
                "state_data": In(18),
                "state_value": Out(18),
                "logits_enable": In(1),
                "logits": Out(stream.Signature(signed(18))),
                "counter_index": In(range(len(COUNTERS))),
                "counter": Out(32),
                "running": Out(1),
                "probe": Out(ProbeSignature(config.engines)).array(tracks),
            }
        )

    def elaborate(self, _platform: object) -> Module:
        m, config = Module(), self.config
        address_bits = max(1, (self.memory_words - 1).bit_length())
        m.submodules.reader = reader = TapeReader(config.word_bytes, address_bits=address_bits, tracks=config.tracks)
        m.submodules.sequencer = sequencer = Sequencer(config, address_bits=address_bits)
        tracks = [Track(config) for _ in range(config.tracks)]
        for index, track in enumerate(tracks):
            m.submodules[f"track_{index}"] = track

        wiring.connect(m, wiring.flipped(self.boot), reader.boot)
        wiring.connect(m, reader.requests, wiring.flipped(self.memory.requests))
        wiring.connect(m, wiring.flipped(self.memory.words), sequencer.words)
        m.d.comb += [
            reader.configured.eq(sequencer.configured),
            *(getattr(reader, name).eq(getattr(sequencer, name)) for name in _REGISTERS),
            reader.finished.eq(sequencer.finished),
            self.configured.eq(sequencer.configured),
            self.fault.eq(sequencer.fault),
            self.fault_code.eq(sequencer.fault_code),
        ]
        self._steps(m, reader, tracks)

        # Everything that the sequencer says goes to all tracks; only an embedding row is for one.
        for name in ("weights", "parameters", "engine_commands", *(f"{name}_commands" for name in COMMANDS)):
            source = getattr(sequencer, name)
            m.submodules[f"{name}_broadcast"] = broadcast = Broadcast(source.payload.shape(), config.tracks)
            wiring.connect(m, source, broadcast.source)
            for track, target in zip(tracks, broadcast.targets):
                wiring.connect(m, target, getattr(track, name))
        words = sequencer.embedding_words
        for index, track in enumerate(tracks):
            mine = sequencer.track == index
            m.d.comb += [
                track.embedding_words.payload.eq(words.payload),
                track.embedding_words.valid.eq(words.valid & mine),
            ]
            with m.If(mine):
                m.d.comb += words.ready.eq(track.embedding_words.ready)
        m.submodules.norm_done = done = PulseJoin(config.tracks)
        m.d.comb += [done.pulses.eq(Cat(track.norm_done for track in tracks)), sequencer.norm_done.eq(done.joined)]

        self._selected(m, tracks)
        self._counters(m, sequencer, tracks)
        for track, probe in zip(tracks, self.probe):
            for name in PROBES:
                m.d.comb += [
                    getattr(probe, f"{name}_valid").eq(getattr(track, f"{name}_valid")),
                    getattr(probe, name).eq(getattr(track, name)),
                ]
        return m

    def _steps(self, m: Module, reader: TapeReader, tracks: list[Track]) -> None:
        """A step from its tokens to its results, and what it tells each track."""
        results, running = self.results, self.running
        m.d.comb += [
            reader.tokens.payload.eq(self.steps.payload),
            reader.tokens.valid.eq(self.steps.valid & ~running),
            self.steps.ready.eq(reader.tokens.ready & ~running),
            results.valid.eq(Cat(track.tokens.valid for track in tracks).all()),
        ]
        with m.If(self.steps.valid & self.steps.ready):
            m.d.sync += running.eq(1)
        with m.If(results.valid & results.ready):
            m.d.sync += running.eq(0)
        for index, track in enumerate(tracks):
            mine, following = reader.step[index], tracks[(index + 1) % len(tracks)]
            m.d.comb += [
                results.payload[index].eq(track.tokens.payload),
                track.tokens.ready.eq(results.valid & results.ready),
                track.active.eq(mine.active),
                track.fresh.eq(mine.fresh & ~mine.chain),
                track.chain.eq(mine.chain),
                track.give.eq(following.chain),
                track.seed.eq(self.seed[index]),
                track.reseed.eq(self.reseed[index]),
            ]
            m.d.sync += track.inv_temperature.eq(self.inv_temperature[index] & mine.active.replicate(17))
            for after, before in zip(track.after, following.before):
                wiring.connect(m, after, before)

    def _selected(self, m: Module, tracks: list[Track]) -> None:
        """The recurrent state and the logits of one track for the host."""
        for index, track in enumerate(tracks):
            mine = self.track == index
            m.d.comb += [
                track.state_access.eq(self.state_access & mine),
                track.state_address.eq(self.state_address),
                track.state_write.eq(self.state_write & mine),
                track.state_data.eq(self.state_data),
                track.logits_enable.eq(self.logits_enable & mine),
                track.logits.ready.eq(self.logits.ready & mine),
            ]
            with m.If(mine):
                m.d.comb += [
                    self.state_value.eq(track.state_value),
                    self.logits.payload.eq(track.logits.payload),
                    self.logits.valid.eq(track.logits.valid),
                ]

    def _counters(self, m: Module, sequencer: Sequencer, tracks: list[Track]) -> None:
        """Counters in the order of `COUNTERS`."""
        took = tracks[0].streaming  # all take the same words
        waits = [Cat(getattr(track, name) for track in tracks).any() for name in _WAITS]
        output, fill, dependency = (wait & ~Cat(waits[:index]).any() & ~took for index, wait in enumerate(waits))
        events: dict[str, Value] = {
            "running": self.running,
            "tokens": self.results.valid & self.results.ready,
            "streaming": took,
            "stall_memory": self.running & ~took & ~Cat(waits).any(),
            "stall_fill": self.running & fill,
            "stall_dependency": self.running & dependency,
            "stall_output": self.running & output,
        }
        for name in ("rows", *SATURATED):
            clamps = [getattr(track, f"saturated_{name}") for track in tracks]
            counted = [clamp & track.active.replicate(len(clamp)) for clamp, track in zip(clamps, tracks)]
            events[f"saturated_{name}"] = sum(counted, start=Value.cast(0))
        values: dict[str, Value] = {
            "crc_errors": sequencer.crc_errors,
            "first_bad_section": sequencer.first_bad_section,
            "fault_code": sequencer.fault_code,
        }
        for name, happened in events.items():
            event = Signal.like(happened, name=f"count_{name}")  # registered: counting one cycle late costs no path
            values[name] = value = Signal(32, name=name)
            m.d.sync += event.eq(happened)
            with m.If(event.any()):
                m.d.sync += value.eq(value + event)
        with m.Switch(self.counter_index):
            for index, name in enumerate(COUNTERS):
                with m.Case(index):
                    m.d.sync += self.counter.eq(values[name])
            with m.Default():
                m.d.sync += self.counter.eq(0)
