"""Before synthesis, in seconds: does the design fit on the device, does a model fit into the design, and what to shrink."""

from __future__ import annotations

import re
from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import replace
from fnmatch import fnmatchcase
from typing import Any

from tritape.base.errors import TritapeError
from tritape.model.config import ModelConfig
from tritape.model.tape.layout import image_words
from tritape.rtl_gen.boards import AnyBoard, BusBoard
from tritape.rtl_gen.footprint import luts as estimated_luts
from tritape.rtl_gen.footprint import memory_blocks
from tritape.rtl_gen.toolchains.toolchain import module_and_memory


def check_model(board: AnyBoard, shape: ModelConfig) -> list[str]:
    """Why `shape` does not run on `board`, one line each with the cure; an empty list if it does."""
    config, too_small = board.config, excess(board, shape)
    problems = [
        f"{field} must be at most {getattr(config, limit)}, not {getattr(shape, field)}; shrink the model, or raise {limit} "
        "in the board's file"
        for field, limit in _LIMITS.items()
        if limit in too_small
    ]
    if MEMORY in too_small:
        problems.append(
            f"tape must be at most {board.memory_bytes} bytes, not {tape_words(board, shape) * config.word_bytes}; "
            f"{_cure(board, shape)}"
        )
    return problems


def require_model(board: AnyBoard, shape: ModelConfig) -> None:
    """Raises `TritapeError` with the first problem of `check_model`, and how many more there are."""
    problems = check_model(board, shape)
    if problems:
        more = f" (and {len(problems) - 1} more)" if len(problems) > 1 else ""
        raise TritapeError(f"{board.name}: {problems[0]}{more}")


def require_device(board: AnyBoard, netlist: str) -> None:
    """Raises `TritapeError` when the elaborated design needs more LUTs (estimated) or block RAM than the device has."""
    available, replicas = board.capacity, board.replicas if isinstance(board, BusBoard) else 1
    luts = replicas * estimated_luts(board.config)
    if luts > available.luts:
        raise TritapeError(
            f"{board.name}: design must need at most {available.luts} LUTs, not about {luts}; use fewer groups, or serial=True, "
            "in the board's file"
        )
    needed = replicas * block_rams(netlist, available.bram_bits, [name for name, _ in board.memory_styles])
    if needed > available.brams:
        raise TritapeError(
            f"{board.name}: design must need at most {available.brams} block RAMs, not {needed}; use fewer memory_words or "
            "groups, or lower limits, in the board's file"
        )


def block_rams(netlist: str, bits: int, elsewhere: Sequence[str] = ()) -> int:
    """Block RAMs of `bits` bits, of the width that needs fewest, that the memories of an RTLIL netlist need, without those
    that a pattern in `elsewhere` names (`NAME` or `MODULE/NAME`)."""
    patterns = [module_and_memory(pattern) for pattern in elsewhere]
    total, module = 0, ""
    for found in re.finditer(r"^(?:module \\(\S+)|\s*memory width (\d+) size (\d+) \\(\S+))", netlist, re.MULTILINE):
        if found[1]:
            module = found[1]
            continue
        width, depth = int(found[2]), int(found[3])
        if any(fnmatchcase(module, of) and fnmatchcase(found[4], name) for of, name in patterns):
            continue
        total += memory_blocks(width, depth, bits)
    return total


_LIMITS = {
    "hidden_size": "max_hidden",
    "intermediate_size": "max_intermediate",
    "num_hidden_layers": "max_layers",
    "vocab_size": "max_vocab",
}
MEMORY = "memory_words"
"""Field of a board's file, of which a tape may need more."""


def _cure(board: AnyBoard, shape: ModelConfig) -> str:
    """The largest layer count, intermediate size or hidden size, each alone, with which the tape would fit."""
    ways = []
    for field, step, name in (
        ("num_hidden_layers", 1, "layers"),
        ("intermediate_size", 16, "intermediate"),
        ("hidden_size", 16, "hidden"),
    ):
        values = range(step, getattr(shape, field), step)
        smaller: list[Any] = [{field: value} for value in values]
        count = bisect_left(
            smaller, True, key=lambda change: tape_words(board, replace(shape, **change)) > board.memory_words
        )
        if count:
            ways.append(f"{name} {values[count - 1]}")
    return f"{' or '.join(ways)} would fit" if ways else "choose a board with more memory"


def excess(board: AnyBoard, shape: ModelConfig) -> list[str]:
    """Fields of the board's file that are too small for `shape`; empty if it fits. As `check_model`, but without the cures, and
    fast."""
    fields = [limit for field, limit in _LIMITS.items() if getattr(shape, field) > getattr(board.config, limit)]
    return fields + ([MEMORY] if tape_words(board, shape) > board.memory_words else [])


def tape_words(board: AnyBoard, shape: ModelConfig) -> int:
    """Of memory that the tape of `shape` takes."""
    config = board.config
    return image_words(shape, config.groups, config.max_rows, config.engines, config.weight_code)
