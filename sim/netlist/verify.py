"""Runs what a board is loaded with, synthesised or routed, against the golden model: over its pins, at its baud rate."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from tritape.base.cache import cached, digest
from tritape.base.errors import TritapeError
from tritape.base.package import source_digest
from tritape.host.device import Device
from tritape.model.checkpoint import random_checkpoint
from tritape.model.codes import SPARSE4
from tritape.model.config import ModelConfig
from tritape.model.formats import quantise_model
from tritape.model.golden import golden_tokens
from tritape.model.quantised import QuantisedModel
from tritape.model.tape.assembler import image
from tritape.rtl_gen.boards import Board
from tritape.rtl_gen.build import netlist_of
from tritape.sim.netlist.flatten import CELLS, flat_verilog
from tritape.sim.virtual_board import VirtualBoard

LEVELS = ("netlist", "routed")
"""`netlist`: what Yosys made of the Verilog. `routed`: what nextpnr placed and routed, with its packed cells."""
PROMPT = (1, 2, 3)
RETRY_S = 15.0
"""How long the host waits for a reply before it asks again: a netlist runs some ten thousand cycles a second, and slower beside
other work; but what is sent before the design's reset ends is lost, so it must ask again before it gives up."""
SILENCE_S = 600.0
"""How long it asks before it gives up: a netlist of 400,000 cells takes minutes for one command on a loaded machine."""

BRIEF_SHAPE = ModelConfig(vocab_size=24, hidden_size=12, num_hidden_layers=1, intermediate_size=16)
BRIEF_TOKENS = 6
"""What `brief` runs: random weights, so few that a board's UART carries them in moments of simulated time."""


@dataclass(frozen=True)
class Verified:
    """What ran, and that it wrote what the golden model writes."""

    board: str
    level: str
    model: str
    tokens: int
    cells: int
    build_seconds: float
    run_seconds: float
    configuration_hash: str

    def as_dict(self) -> dict[str, Any]:
        """The fields by name."""
        return asdict(self)


def verify(
    board: Board,
    model: QuantisedModel,
    name: str,
    *,
    level: str = "netlist",
    tokens: int = 12,
    netlist: Path | None = None,
    progress: Callable[[str], None] = lambda line: None,
) -> Verified:
    """Load `model` into the netlist of `board` over its UART pins, generate `tokens` tokens, compare with the golden model.

    level: one of `LEVELS`; netlist: its JSON, where it is there already, else it is built (and cached). The clock runs at
    `board.clock_hz / board.baud` cycles a bit, as on the board. Colliding reads of block RAM give inverted bits.

    Raises `TritapeError` that names the first wrong token, and what cannot be built or run.
    """
    if level not in LEVELS:
        raise TritapeError(f"level must be one of {', '.join(LEVELS)}, not {level!r}; choose one")
    if tokens < 1:
        raise TritapeError(f"tokens must be at least 1, not {tokens!r}; ask for more")
    if not _has_model(board):
        raise TritapeError(
            f"{board.name}: memory must be SDR or inside the device, not {board.memory}, which has no model at the pins here; "
            "verify the board of the same device without it"
        )
    config = board.config
    tape = image(model, config.groups, config.max_rows, config.engines, config.weight_code)
    started = time.monotonic()
    progress("netlist")
    path = netlist or netlist_of(board, level)
    progress("flattening")
    design = flat_verilog(board, path)
    bit = round(board.clock_hz / board.baud)
    with VirtualBoard(board, design=design, top="top_pins", bit_cycles=bit, progress=progress) as virtual:
        built = time.monotonic()
        progress("running")
        with Device.open(virtual.port, baud=board.baud, retry_s=RETRY_S, silence_s=SILENCE_S) as device:
            device.load_tape(tape)
            wrote = list(device.generate_tokens(PROMPT, tokens))
    expected = golden_tokens(model, PROMPT, tokens)
    for place, (want, got) in enumerate(zip(expected, wrote, strict=True)):
        if want != got:
            raise TritapeError(
                f"{board.name}: token {place} of the {level} design must be {want}, not {got}; "
                "a tool, or a cell's model, is wrong"
            )
    return Verified(
        board.name, level, name, tokens, design.count("\n"), round(built - started, 1), round(time.monotonic() - built, 1),
        f"{board.config.hash64():016x}",
    )  # fmt: skip


def brief_model(board: Board) -> QuantisedModel:
    """The model of `brief`, with weights that the board's code can write."""
    sparse = board.config.weight_code is SPARSE4
    return quantise_model(random_checkpoint(BRIEF_SHAPE, seed=1, sparse4=sparse), ids=list(range(8)))


def brief(board: Board, netlist: Path) -> dict[str, Any]:
    """The check that `tritape build` makes of every netlist: `BRIEF_TOKENS` tokens of a model with random weights.

    Returns what the manifest says of it: level, model, tokens; nothing for a board with DDR3 or its tape in flash, which have no
    model at the pins here.
    The result is cached with what it depends on. Raises as `verify`.
    """
    if not _has_model(board):
        return {}

    def run(folder: Path) -> None:
        result = verify(board, brief_model(board), "random", tokens=BRIEF_TOKENS, netlist=netlist)
        (folder / "verified.json").write_text(json.dumps(result.as_dict()))

    made = f"{board.name} {board.clock_hz} {board.baud}"
    cells = (CELLS / f"{board.toolchain.family}.v").read_text()
    key = digest(
        netlist.read_text(), made, cells, source_digest("model", "host", "sim/netlist", "sim/virtual_board.py")
    )
    result = json.loads((cached("verified", key, run) / "verified.json").read_text())
    return {name: result[name] for name in ("level", "model", "tokens")}


def _has_model(board: Board) -> bool:
    """Everything that the board's netlist needs beside it can be simulated."""
    return board.flash is None and (board.dram is None or board.dram.memtype == "SDR")
