"""What the commands for a device share: options, opening it, and loading a model."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer

from tritape.base.errors import TritapeError
from tritape.cli.common import console, model_path, opened, progress
from tritape.host import dram
from tritape.host.device import Device
from tritape.host.draft import Draft, open_draft
from tritape.host.tape_device import loading_seconds
from tritape.model.data import embedded_models
from tritape.model.open import OpenModel
from tritape.rtl_gen.archive import FOLDER, read_archive
from tritape.rtl_gen.boards import AnyBoard, boards
from tritape.rtl_gen.boards import board as find_board

LONG_S = 3.0
"""A loading that takes longer is announced."""
Port = Annotated[
    str,
    typer.Option(
        "--port", "-p", help="Serial port of the board, or of a virtual one; uio:NAME for fabric beside this processor."
    ),
]
BoardName = Annotated[
    str | None, typer.Option("--board", "-b", help="Insist on this board's bitstream, and use its baud rate.")
]
Baud = Annotated[int | None, typer.Option(help="Bits a second of the port (default: the board's, else 1,000,000).")]
ModelPath = Annotated[
    Path | None,
    typer.Option(
        "--model",
        "-m",
        help="Checkpoint folder, tape, or a name (default: the one for --board, else small).",
        callback=model_path,
    ),
]
Temperature = Annotated[float, typer.Option("--temperature", "-t", help="0 is greedy.")]
DraftName = Annotated[
    str | None,
    typer.Option(
        "--draft",
        help="Guess tokens ahead on a board with several slots: ngram, or a small model of the same tokenizer.",
    ),
]
Seed = Annotated[int, typer.Option(help="Seed of the sampler, 0 to 2^32 - 1.")]


def find_model(path: Path | None, board: str | None = None) -> OpenModel:
    """The model at a path; None is the embedded one that is meant for `board`, or the default model. Raises TritapeError."""
    if path is None and board is not None:
        path = embedded_models()[find_board(board).model]
    model = opened(path)
    _ = model.codec  # a model without text is refused before a device is opened
    return model


def draft_for(name: str | None, target: OpenModel) -> Draft | None:
    """The draft of option `--draft`. Raises TritapeError for one of another tokenizer."""
    return None if name is None else open_draft(name, target)


@contextmanager
def open_device(port: str, board: str | None, baud: int | None) -> Iterator[Device]:
    """A device, closed at the end. Raises TritapeError when it is not the bitstream of `board`."""
    wanted = None if board is None else find_board(board)
    with Device.open(port, baud=baud or (wanted.baud if wanted else None)) as device:
        if wanted is not None:
            check_bitstream(device, wanted, port)
            start_memory(device, wanted)
        yield device


def check_bitstream(device: Device, board: AnyBoard, port: str) -> None:
    """Raise TritapeError unless the device carries this board's configuration."""
    found, wanted = device.identity.configuration, board.config.hash64()
    if found != wanted:
        raise TritapeError(
            f"{port}: configuration of the device must be {wanted:016x} ({board.name}), not {found:016x}; "
            f"run: tritape program {board.name} ARCHIVE"
        )


def start_memory(device: Device, board: AnyBoard) -> None:
    """Start and level a board's DDR3, unless that was done since its bitstream was loaded. Raises TritapeError when it cannot
    be."""
    if board.dram is None or board.dram.memtype != "DDR3" or dram.is_started(device):
        return
    path = FOLDER / f"{board.name}.zip"
    about, _ = read_archive(path)
    if "dram" not in about:
        raise TritapeError(f"{path}: manifest must have dram, how to start the memory, not lack it; build it again")
    dram.start(device, about["dram"])


def is_greedy(device: Device) -> bool:
    """Whether the device carries the configuration of a board without a sampler."""
    found = device.identity.configuration
    return any(board.config.serial and board.config.hash64() == found for board in boards().values())


def set_sampler(device: Device, temperature: float, seed: int) -> None:
    """`Device.settings`; raises TritapeError for a temperature on a bitstream that has no sampler."""
    if temperature and is_greedy(device):
        raise TritapeError(
            f"temperature must be 0 on this bitstream, which is greedy, not {temperature}; add --temperature 0"
        )
    device.settings(temperature, seed)


def load(device: Device, model: OpenModel) -> None:
    """Put a model's tape on the device, unless it is there already. Says before how long that takes, if it is long. Raises
    TritapeError, with nothing written, when it does not fit."""
    with progress("loading") as update:

        def tell(done: int, total: int) -> None:
            if not done and device.baud is not None and (seconds := loading_seconds(total, device.baud)) >= LONG_S:
                console.print(
                    f"loading {total:,} bytes over {device.baud:,} baud takes about {duration(seconds)}, less where some are "
                    "there already; if it is interrupted, the same command goes on",
                    soft_wrap=True,
                    highlight=False,
                )
            update(done, total)

        device.load_model(model, tell)


def duration(seconds: float) -> str:
    """Seconds up to two minutes, else minutes, as people say it."""
    return f"{seconds:.0f} s" if seconds < 120 else f"{seconds / 60:.0f} min"
