"""What an accelerator costs, without elaborating it: block RAMs from its memories' shapes, multipliers, LUTs fitted to synthesis.

Pinned by tests/test_rtl_gen_footprint.py: the memories to those of the netlist, all three numbers to what Yosys and nextpnr
gave at the points of benchmarks/area/points.json (`python benchmarks/area_points.py`).
"""

from __future__ import annotations

from dataclasses import dataclass

from tritape.hw.config import Config
from tritape.hw.engine import sparse_activations as sparse
from tritape.hw.engine.activation_memory import DIGIT_BITS, fillers, table_bits, tile_bits
from tritape.hw.engine.row_accumulator import row_bits, row_width
from tritape.hw.link.step_runner import Entry
from tritape.hw.link.token_runner import RING
from tritape.hw.mixer.state_memory import StateMemory
from tritape.hw.vector.program import OPERATIONS, Operation
from tritape.model.codes import TERNARY5
from tritape.model.codes.ternary5 import MAGNITUDE_BITS

BRAM_BITS = 18 * 1024
LUT_RAMS = 18
"""Distributed RAMs of 16 x 4 bits that Yosys takes rather than one block RAM (seen on ECP5; Gowin's are alike)."""
FLIP_FLOPS = 256
"""Bits of a memory that becomes flip-flops rather than block RAM, where there is no distributed RAM."""


@dataclass(frozen=True)
class Footprint:
    """LUTs of the part's kind, block RAMs of 18 kbit, multipliers."""

    luts: int
    brams: int
    dsps: int


def memory_blocks(width: int, depth: int, bits: int = BRAM_BITS) -> int:
    """Block RAMs of `bits` bits, of the width that needs fewest, for a memory with one read and one write port; 0 where it
    becomes distributed RAM or flip-flops."""
    parity = bits % 9 == 0  # widths above 8 then have a ninth bit a byte; iCE40 has neither that nor distributed RAM
    widths = (36, 18, 9, 4, 2, 1) if parity else (16, 8, 4, 2, 1)
    blocks = min(-(-width // w) * -(-depth // ((bits if w > 8 or not parity else bits * 8 // 9) // w)) for w in widths)
    small = -(-width // 4) * -(-depth // 16) <= LUT_RAMS * blocks if parity else width * depth <= FLIP_FLOPS
    return 0 if small else blocks


def memories(config: Config) -> list[tuple[str, int, int, int]]:
    """(name, how many, width, depth) of every memory of the accelerator, without queues of a few words and the tape's memory."""
    engines, code = config.engines, config.weight_code
    tables = ("table", engines * config.tables, code.entry_bits, 2 << code.address_bits)
    found: list[tuple[str, int, int, int]] = [tables]
    if code is TERNARY5:
        address = DIGIT_BITS + tile_bits(config) + 1 + (table_bits(config) if config.tables_per_filler > 1 else 0)
        found += [
            ("script", 1, MAGNITUDE_BITS + DIGIT_BITS + 3, 1 << MAGNITUDE_BITS),
            ("activations", engines * fillers(config), 8, 1 << address),
        ]
    else:
        found += [("activations", 1, 8 * sparse.FOUR, 2 << sparse.address_bits(config))]
    found.append(("rows", engines, row_width(config), 1 << row_bits(config)))
    per_word = config.groups // 2
    hidden, length = config.lane(config.max_hidden), config.lane(config.max_length)
    if config.serial:
        gains, bound = (-(-size // per_word) * per_word for size in (config.max_length, config.max_hidden))
        found += [
            ("values", 1, 18, config.state_elements + config.max_hidden + config.max_length),
            ("gains", 1, 16, 4 * gains + bound),
            ("sigma", 1, 16, 1024),
            ("operations", 1, Operation.size, len(OPERATIONS)),
        ]
    else:
        found += [
            ("gains", 2 * engines, 16 * per_word, 2 * -(-length // per_word)),
            ("lower bound", engines, 16 * per_word, -(-hidden // per_word)),
            ("residual", engines, 18, hidden + length),
            ("sigma", 2 * engines, 16, 1024),
            ("Gumbel noise", 1, 16, 1024),
        ]
        for name, depth in (("states", hidden * config.max_layers), ("candidates", hidden)):
            whole, rest = divmod(depth, StateMemory.BANK)
            found += [(name, engines * whole, 18, StateMemory.BANK), (name, engines * bool(rest), 18, rest)]
    if engines > 1:
        found.append(("logits", 1, 18 * engines, config.lane(config.max_rows) - 1))
    if config.batch > 1:
        found.append(("embedding row", 1, 8 * config.word_bytes, -(-config.max_hidden // config.word_bytes) - 1))
    found = [(name, config.batch * count, width, depth) for name, count, width, depth in found if count]
    bits = (config.batch - 1).bit_length()
    return [*found, ("frame", 1, 8, 512), ("tokens", 1, 16 if config.batch == 1 else Entry.size, RING << bits)]


def block_rams(config: Config) -> int:
    """Block RAMs of 18 kbit, as ECP5 and Xilinx have, of the accelerator without the tape's memory."""
    blocks = _in_blocks(config)
    return sum(
        count * max(memory_blocks(width, depth), name in blocks) for name, count, width, depth in memories(config)
    )


def _in_blocks(config: Config) -> tuple[str, ...]:
    """Memories that are block RAM however small."""
    return ("script", "table") if config.block_tables else ("script",)


def multipliers(config: Config) -> int:
    """Multipliers of 18 x 18 bits."""
    if config.serial:
        return 1
    return config.batch * (2 + 13 * config.engines)


def luts(config: Config, inputs: int = 4) -> int:
    """LUTs of so many inputs, 4 or 6, with those of distributed RAM.

    Unit by unit, as the cells of two synthesised netlists (E = 1 and 4, G = 16) are spread over the units; carry chains count two
    LUTs a cell, and `PACKING` is what nextpnr adds for their ends. What grows with G in a lane is choosing 16 of 8 G bits, three
    times, and 8 for the embedding.
    """
    distributed = sum(
        count * -(-width // 4) * -(-depth // 16)
        for name, count, width, depth in memories(config)
        if not memory_blocks(width, depth) and name not in _in_blocks(config)
    )
    word, tables = config.word_bytes, config.engines * config.tables
    if config.serial:
        total = 3100 + 110 * config.groups
    else:
        banks = sum(count for name, count, _, _ in memories(config) if name == "states") // config.batch
        vector = 1290 + config.engines * (139 + 2590 + 32 * config.groups) + 15 * banks
        engine = 18 * tables + 16 * config.engines * fillers(config)
        if config.weight_code is not TERNARY5:
            # Fillers, activations and control; the bank's multiplexer behind distributed RAM, which LUT6s have in them.
            engine = 20 * tables + 34 * sparse.fillers(config) + 200
            choice = tables * config.weight_code.entry_bits * (not config.block_tables)
            engine += choice if inputs == 4 else -2 * choice
        sequencer, reader_and_counters = 469 + 48 * word, 830
        link = 1055 + 9 * word
        parts = sequencer + reader_and_counters + link + config.batch * (vector + engine) + 6 * distributed
        total = round(PACKING * parts)
    return total if inputs == 4 else round(LUT6 * total)


PACKING = 1.058
LUT6 = 0.62
"""LUT6s of Xilinx over LUT4s of ECP5, tables in block RAM."""


def footprint(config: Config, lut_inputs: int = 4) -> Footprint:
    """All three numbers, for a part with LUTs of so many inputs."""
    return Footprint(luts(config, lut_inputs), block_rams(config), multipliers(config))
