"""Runs what a board is loaded with, synthesised or routed, against the golden model: over its pins, at its baud rate."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from tritape.base.errors import TritapeError
from tritape.host.device import Device
from tritape.model import arith
from tritape.model.golden import IntegerModel
from tritape.model.quantised import QuantisedModel
from tritape.model.tape.assembler import image
from tritape.rtl_gen.boards import Board
from tritape.rtl_gen.build import netlist_of
from tritape.sim.netlist.flatten import flat_verilog
from tritape.sim.virtual_board import VirtualBoard

LEVELS = ("netlist", "routed")
"""`netlist`: what Yosys made of the Verilog. `routed`: what nextpnr placed and routed, with its packed cells."""
PROMPT = (1, 2, 3)
PATIENCE_S = 120.0
"""How long the host waits for a reply: a netlist runs some ten thousand cycles a second, and slower beside other work."""


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
    started = time.monotonic()
    progress("netlist")
    path = netlist or netlist_of(board, level)
    progress("flattening")
    design = flat_verilog(board, path)
    bit = round(board.clock_hz / board.baud)
    with VirtualBoard(board, design=design, top="top_pins", bit_cycles=bit, progress=progress) as virtual:
        built = time.monotonic()
        progress("running")
        with Device.open(virtual.port, baud=board.baud, retry_s=PATIENCE_S) as device:
            identity = device.identity
            device.load_tape(image(model, identity.groups, identity.max_rows, identity.engines))
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


def golden_tokens(model: QuantisedModel, prompt: tuple[int, ...], count: int) -> list[int]:
    """Greedy tokens of the golden model behind a prompt."""
    run, tokens = IntegerModel(model), list(prompt)
    for place in range(len(prompt) + count - 1):
        chosen, _ = arith.choose(run.step(tokens[place]), 0, arith.XORSHIFT_DEFAULT)
        if place >= len(prompt) - 1:
            tokens.append(chosen)
    return tokens[len(prompt) :]
