"""The cycle model: when each section of a tape is read, each table filled and each vector ready, without simulating.

It follows the hardware's dependencies at the grain of tiles and vectors, with the latencies that the units state. Tested
against RTL at several shapes (tests/test_sim_generate.py). Source: docs/architecture.md and the units' docstrings.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from tritape.hw.batch.slot import Slot
from tritape.hw.config import Config
from tritape.hw.engine.choice import fill_cycles
from tritape.hw.engine.engine import pipeline_cycles
from tritape.hw.engine.sparse_activations import batches, fillers
from tritape.hw.engine.sparse_filler import SparseFiller
from tritape.hw.head.head import Head
from tritape.hw.head.row_serialiser import RowSerialiser
from tritape.hw.mixer.channel_mixer import ChannelMixer
from tritape.hw.mixer.mlgru import MLGRU
from tritape.hw.mixer.residual import Residual
from tritape.hw.norm.dequantiser import Dequantiser
from tritape.hw.norm.gain_memory import GainMemory
from tritape.hw.norm.gains import ApplyGains
from tritape.hw.norm.quantiser import Quantiser
from tritape.hw.norm.rmsnorm import RMSNorm
from tritape.hw.norm.vector_scalar import VectorScalar
from tritape.hw.stream.pulse_join import PulseJoin
from tritape.hw.tape.embedding import Embedding
from tritape.hw.tape.reader import TapeReader
from tritape.hw.tape.sequencer import Sequencer
from tritape.hw.vector import program as serial
from tritape.hw.vector.serial import SerialVector
from tritape.model.codes import TERNARY5, WeightCode
from tritape.model.config import ModelConfig
from tritape.model.tape.layout import (
    Geometry,
    MatvecMode,
    Opcode,
    PrepMode,
    Section,
    ideal_cycles,
    image_words,
    program,
    ternary_weights,
)
from tritape.rtl_gen.footprint import footprint

PUBLISHED = {
    "370m": ModelConfig(vocab_size=32000, hidden_size=1024, num_hidden_layers=24, intermediate_size=2816),
    "1.3b": ModelConfig(vocab_size=32000, hidden_size=2048, num_hidden_layers=24, intermediate_size=5632),
    "2.7b": ModelConfig(vocab_size=32000, hidden_size=2560, num_hidden_layers=32, intermediate_size=6912),
}
"""Shapes of the released models."""

NORMALISE_CYCLES = 2
"""Cycles that the scalar unit takes to normalise a typical maximum (it depends on the data: 0 to 7)."""
QUEUE_CYCLES = 2
"""Latency of an empty `CommandQueue`."""
MAX_PADDING = 0.03
"""Padding above which the estimate names a better G."""


@dataclass
class _Clock:
    """The state of the model: all times in cycles."""

    config: Config
    now: float = 0.0  # when the sequencer has taken the last word
    word_cycles: float = 1.0  # cycles between words, at least
    line_cycles: float = 1.0  # between words that were read ahead: what the backend's lines allow
    buffer_words: float = 0.0  # that the memory reads ahead while the engine waits
    ahead: float = 0.0  # of them that are there
    read_end: float = 0.0  # when the last word was taken
    by_section: dict[str, float] = field(default_factory=lambda: defaultdict(float))
    stream_end: float = 0.0  # when the engine has taken the last row slice
    logits_end: float = 0.0  # when the head takes the last logit
    fill_start: float = -math.inf  # of the last tile
    bank_free: list[float] = field(default_factory=lambda: [0.0, 0.0])  # when each bank's last slice was taken
    bank: int = 0
    # when the last activation of the last PREP, and of the one before, has left the rmsnorm unit
    prepared: float = 0.0
    prepared_before: float = 0.0
    # by projection: time of the first, number, cycles from one to the next
    activations: dict[str, tuple[float, int, int]] = field(default_factory=dict)
    listening: Section | None = None  # PREP that waits for its vector
    last_element: float = 0.0  # when the residual unit wrote the last element
    unit_free: float = 0.0  # when the serial vector unit can begin something

    def read(self, words: float, start: float) -> float:
        """When so many words are taken, the first of them from `start` on: as fast as lines become words while there are words
        ahead, then as they come."""
        self.ahead = min(self.buffer_words, self.ahead + max(0.0, start - self.read_end) / self.word_cycles)
        missing = words - words * self.line_cycles / self.word_cycles  # that do not come while those ahead are taken
        if missing <= self.ahead:
            self.ahead -= missing
            self.read_end = start + words * self.line_cycles
        else:
            self.read_end = start + (words - self.ahead) * self.word_cycles
            self.ahead = 0.0
        return self.read_end


def estimate_tokens(
    shape: ModelConfig,
    config: Config,
    clock_hz: float,
    bandwidth: float | None,
    buffer_bytes: float = 0.0,
    latency: float = 0.0,
    line_bytes: float | None = None,
) -> dict[str, Any]:
    """Cycles, sizes and projected rate of one token.

    bandwidth: bytes a second that the memory delivers, None for one word a cycle; buffer_bytes: what it reads ahead; latency:
    cycles from a token's first request to its words; line_bytes: what the backend delivers in a cycle at most, of what it has
    read ahead, by default the power of two from the memory's bytes a cycle on (`Gearbox`). The result is JSON-ready:
    `cycles_per_token, ideal_cycles, roofline_fraction, tokens_per_second, limited_by, cycles` by kind of section, `tape_bytes,
    image_bytes, padding`, and of `footprint` for an ECP5 `block_rams, dsps, luts_estimated`. With several slots all but the
    first and the rate are of a step, and there are `batch, cycles_per_step`.
    """
    groups = config.groups
    word_cycles = line_cycles = 1.0
    if bandwidth is not None:
        word_cycles = max(1.0, config.word_bytes * clock_hz / bandwidth)
        if line_bytes is None:
            line_bytes = 2.0 ** math.ceil(math.log2(bandwidth / clock_hz) - 1e-9)  # 16e9 / 250e6 is 64, rounded or not
        line_cycles = min(word_cycles, max(1.0, config.word_bytes / line_bytes))
    buffer_words = buffer_bytes / config.word_bytes
    cycles, by_section = token_cycles(shape, config, word_cycles, None, buffer_words, latency, line_cycles)
    geometry, code = config.geometry, config.weight_code
    prologue, body = program(shape, groups, config.max_rows, config.engines, code)
    rows = config.batch * geometry.row_words(shape.hidden_size)
    words = sum(geometry.section_words(s) for s in prologue + body) + rows
    ideal = ideal_cycles(shape, config.word_bytes, code) * word_cycles
    stall = cycles - words * word_cycles
    limited = "memory" if word_cycles > 1 else "engine"
    if stall > 0.1 * cycles:
        limited = "table fills and dependencies"
    elif padding(shape, groups, code) > MAX_PADDING:
        step = code.groups_step
        near = range(max(4, groups * 3 // 4 + -(groups * 3 // 4) % step), groups * 5 // 4 + 1, step)
        better = min(near, key=lambda other: padding(shape, other, code))
        limited = f"padding to tiles of {config.tile}; G = {better} pads {padding(shape, better, code):.1%}"
    cost = footprint(config)
    steps = {}
    if config.batch > 1:
        steps = {"batch": config.batch, "cycles_per_step": round(cycles)}
    return {
        "cycles_per_token": round(cycles / config.batch),
        "ideal_cycles": ideal,
        "roofline_fraction": ideal / cycles,
        "tokens_per_second": config.batch * clock_hz / cycles,
        **steps,
        "clock_hz": clock_hz,
        "limited_by": limited,
        "cycles": {name: round(value) for name, value in by_section.items()},
        "ternary_weights": ternary_weights(shape),
        "tape_bytes": words * config.word_bytes,
        "image_bytes": image_words(shape, groups, config.max_rows, config.engines, code) * config.word_bytes,
        "padding": padding(shape, groups, code),
        "block_rams": cost.brams,
        "dsps": cost.dsps,
        "luts_estimated": cost.luts,
    }


def padding(shape: ModelConfig, groups: int, code: WeightCode = TERNARY5) -> float:
    """Share of the streamed weight bytes that are padding, because K does not divide by the tile, 5 G in ternary5."""
    geometry = Geometry(groups, code=code)
    hidden, inner = shape.hidden_size, shape.intermediate_size
    rows = shape.num_hidden_layers * (4 * hidden + 2 * inner) + shape.vocab_size
    words = rows * geometry.tiles(hidden) + shape.num_hidden_layers * hidden * geometry.tiles(inner)
    return 1 - ideal_cycles(shape, groups, code) / words


def token_cycles(
    shape: ModelConfig,
    config: Config,
    word_cycles: float = 1.0,
    on_section: Callable[[Section, float, float], None] | None = None,
    buffer_words: float = 0.0,
    latency: float = 0.0,
    line_cycles: float = 1.0,
) -> tuple[float, dict[str, float]]:
    """(cycles from a token's start to its result, cycles by projection or kind of section); with several slots, of a step.

    `on_section(section, start, end)` is told of every section of the body, in cycles.
    """
    geometry = config.geometry
    prologue, body = program(shape, config.groups, config.max_rows, config.engines, config.weight_code)
    clock = _Clock(config, word_cycles=word_cycles, line_cycles=line_cycles, buffer_words=buffer_words)
    # The prologue was read while the token before ended: its PREP listens, and EMBED waits for the row.
    clock.listening = next(section for section in prologue if section.opcode == Opcode.PREP)
    start = TapeReader.LATENCY + 3 + latency
    row = Embedding.LATENCY + Residual.LATENCY
    hidden = geometry.lane(shape.hidden_size)
    rows = geometry.row_words(shape.hidden_size) * word_cycles
    clock.now = start + (max(hidden, rows) if config.batch == 1 else config.batch * rows)
    clock.by_section["EMBED"] = clock.read_end = clock.now
    if config.serial:
        clock.now = max(clock.now, start + shape.hidden_size)
        clock.unit_free = clock.now + _serial(clock, "embed", shape.hidden_size)
        _vector_ready(clock, clock.unit_free)
    else:
        _vector_ready(clock, start + row + hidden - 1 + (config.batch - 1) * rows)
    for section in body:
        before = max(clock.now, clock.stream_end)
        clock.now = clock.read(geometry.header_words, clock.now) + Sequencer.OVERHEAD
        if section.opcode == Opcode.PREP:
            _prepare(clock, section)
        elif section.opcode == Opcode.MATVEC:
            _stream(clock, section)
        elif config.serial and section.opcode == Opcode.LOAD:
            clock.now = max(clock.now, clock.unit_free) + section.payload * max(word_cycles, config.groups // 2)
            clock.unit_free = clock.now
        elif section.opcode == Opcode.LOAD:
            clock.now = clock.read(section.payload, max(clock.now, _load_start(clock)))
        else:
            clock.now = clock.read(section.payload, clock.now)
        clock.now = clock.read(1, clock.now)  # CRC
        name = section.what.split(".")[-1] if section.opcode == Opcode.MATVEC else section.opcode.name
        after = max(clock.now, clock.stream_end)
        clock.by_section[name] += after - before
        if on_section is not None:
            on_section(section, before, after)
    end = clock.logits_end + Head.LATENCY + 2
    if config.serial:
        end = clock.unit_free + 3
    clock.by_section["result"] = end - max(clock.now, clock.stream_end)
    return end, dict(clock.by_section)


def _prepare(clock: _Clock, section: Section) -> None:
    """A PREP: reads its vector at once, or waits for the one that a later MATVEC makes."""
    if section.mode != PrepMode.READ:
        clock.listening = section
        return
    if clock.config.serial:
        clock.unit_free = max(clock.unit_free, clock.now)
        _serial_quantise(clock, section)
        return
    # The sequencer keeps the residual's command for two cycles before it queues.
    first = clock.now + 2 + QUEUE_CYCLES + Residual.LATENCY + 1
    _quantise(clock, section, first + section.length - 1)


def _load_start(clock: _Clock) -> float:
    """When the words of a LOAD can be taken: at most one PREP is unfinished, so those before the last one are done. The unit
    says so in a register, the sequencer counts in another and compares in a third."""
    finished = clock.prepared if clock.listening else clock.prepared_before
    return finished + 2 + (PulseJoin.LATENCY if clock.config.batch > 1 else 0)


def _vector_ready(clock: _Clock, last_element: float) -> None:
    """The vector that the listening PREP waits for is complete."""
    section = clock.listening
    assert section is not None
    clock.listening = None
    clock.last_element = last_element
    if clock.config.serial:
        _serial_quantise(clock, section)
    else:
        _quantise(clock, section, last_element)


def _quantise(clock: _Clock, section: Section, last_element: float) -> None:
    """Both passes of a PREP, whose vector's last element can be measured at `last_element` if the unit is free by then."""
    # The unit takes a command two cycles after the elements of the one before, which are then on the way to the engine; the
    # gains come after that.
    taken = clock.prepared - ApplyGains.LATENCY - Quantiser.LATENCY
    measured = max(last_element, taken + 2 + GainMemory.LATENCY + section.length - 1)
    first = measured + RMSNorm.STATISTICS_LATENCY + VectorScalar.level_count(clock.config.engines) + NORMALISE_CYCLES
    clock.activations[section.what] = first, section.length, 1
    clock.prepared, clock.prepared_before = first + section.length, clock.prepared


def _stream(clock: _Clock, section: Section) -> None:
    """A MATVEC block: fill and stream every tile, then carry its rows to the unit behind."""
    config = clock.config
    # The most that `fill_cycles` allows in ternary5 is one more, where a tile begins a block: that cycle is in `dispatched`.
    fill = fill_cycles(config) - (config.weight_code is TERNARY5)
    first, length, step = clock.activations[section.what]
    dispatched = clock.now + 1 + (0 if config.serial else QUEUE_CYCLES)
    stream = 0.0
    for tile in range(section.tiles):
        begin = max(clock.fill_start + fill, clock.bank_free[clock.bank], dispatched)
        if config.weight_code is TERNARY5:
            begin = max(begin, first + step * min((tile + 1) * config.tile // config.engines, length))
            done = begin + fill
        else:
            done = _sparse_fill(config, begin, tile, (first, length, step))
            begin = done - fill
        clock.fill_start = begin
        stream = max(done, clock.stream_end, clock.now)
        clock.stream_end = clock.now = clock.read(section.rows, stream)
        clock.bank_free[clock.bank] = clock.stream_end
        clock.bank ^= 1
        dispatched = 0.0
    if config.serial:
        _serial_rows(clock, section, stream)
        return
    behind = pipeline_cycles(config) + (Slot.ROW_CYCLES if config.batch > 1 else 0)
    if section.mode == MatvecMode.LOGITS:
        # The head takes one logit a cycle: with several lanes it falls behind while the last tile of a block streams.
        delay = behind + Dequantiser.LATENCY + (RowSerialiser.LATENCY if config.engines > 1 else 0)
        begun = max(stream + clock.word_cycles - 1 + delay, clock.logits_end + 1)
        clock.logits_end = max(clock.stream_end - 1 + delay, begun + section.rows * config.engines - 1)
    if not section.flags & 2:
        return
    last_row = clock.stream_end - 1 + behind + Dequantiser.LATENCY
    if section.mode == MatvecMode.RESIDUAL:
        _vector_ready(clock, last_row + Residual.LATENCY)
    elif section.mode == MatvecMode.G:
        _vector_ready(clock, last_row + MLGRU.LATENCY + Residual.LATENCY)
    elif section.mode == MatvecMode.GATE_UP:
        _vector_ready(clock, last_row + ChannelMixer.LATENCY + Residual.LATENCY)


def _sparse_fill(config: Config, begin: float, tile: int, vector: tuple[float, int, int]) -> float:
    """When a tile's tables are filled, batch after batch as soon as the activations of each are there, not before `begin`."""
    first, length, step = vector
    count = fillers(config)
    fours = count * 4 // config.engines  # elements of a lane in a batch
    there = begin
    for batch in range(tile * batches(config), (tile + 1) * batches(config)):
        arrived = first + step * min((batch + 1) * fours, length)
        there = max(there, arrived + SparseFiller.START_CYCLES - 2) + SparseFiller.STEPS
    return there + count + SparseFiller.OVERHEAD_CYCLES


_PROGRAM = {
    MatvecMode.I: "candidate", MatvecMode.F: "forget", MatvecMode.G: "output", MatvecMode.GATE_UP: "mixer",
    MatvecMode.RESIDUAL: "residual", MatvecMode.LOGITS: "logits",
}  # fmt: skip
_DRAIN = 3  # cycles until the last result of a program is written


def _serial(clock: _Clock, name: str, count: int) -> float:
    """Cycles of a program of the serial unit from its dispatch."""
    pairs = count // 2 if name == "mixer" else count
    return 1 + serial.cycles(name) * pairs + _DRAIN


def _serial_quantise(clock: _Clock, section: Section) -> None:
    """Both passes of a PREP in the serial unit, as soon as it is free."""
    keep = section.flags & 4
    both = section.length + 2  # elements and what drains
    quantise = clock.unit_free + serial.cycles("measure_keep" if keep else "measure") * both
    quantise += SerialVector.PREPARE_CYCLES - 2 + NORMALISE_CYCLES
    step = serial.cycles("quantise")
    clock.activations[section.what] = quantise + 2 * step + _DRAIN, section.length, step
    clock.unit_free = quantise + step * both + 2


def _serial_rows(clock: _Clock, section: Section, stream: float) -> None:
    """Rows of the last tile, which began to stream at `stream`, go through the serial unit; it holds the engine back."""
    inside = pipeline_cycles(clock.config)
    start = max(clock.unit_free, stream + inside)
    end = start + _serial(clock, _PROGRAM[MatvecMode(section.mode)], section.rows)
    end = max(end, clock.stream_end + inside + _DRAIN)
    clock.unit_free = end
    cycles = (end - start) / max(1, section.rows)
    clock.stream_end = max(clock.stream_end, end - _DRAIN - cycles * min(inside, section.rows))
    clock.now = max(clock.now, clock.stream_end)
    clock.bank_free[clock.bank ^ 1] = clock.stream_end
    if section.flags & 2 and section.mode in (MatvecMode.G, MatvecMode.GATE_UP, MatvecMode.RESIDUAL):
        _vector_ready(clock, end)
