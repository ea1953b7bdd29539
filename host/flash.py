"""What goes into the flash of a board that writes text by itself: a script and a tape, and the command that puts them there."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tritape.base.errors import TritapeError
from tritape.host.limits import check_geometry, check_limits
from tritape.host.program import command, run_loader
from tritape.host.protocol import Identity, inverse_temperature
from tritape.hw.config import Config
from tritape.hw.link.autoboot import ENDS, LAST, MARK, PROMPT_END, SETTINGS, TEXT_BYTES, script_words, text_words
from tritape.hw.link.commands import identity
from tritape.model.config import ModelConfig
from tritape.model.pieces import token_pieces
from tritape.model.tape.container import TapeFile
from tritape.model.tape.reader import read_header
from tritape.model.tokenizer import tape_tokenizer
from tritape.rtl_gen.boards import AnyBoard, Board, boards
from tritape.rtl_gen.estimate import token_cycles

MAX_PROMPT = PROMPT_END - SETTINGS
MAX_TOKENS = 1 << 16


def script(
    config: Config,
    pieces: Sequence[bytes],
    prompt: Sequence[int],
    tokens: int,
    *,
    end: int | None = None,
    inverse: int = 0,
    seed: int = 0,
) -> bytes:
    """The script of docs/boards.md, for memories of `config.word_bytes`: all that stands before the tape.

    pieces: bytes of every token; prompt: ids; tokens: to choose, at most; end: the id that ends a text; inverse: temperature as
    `host.protocol.inverse_temperature` gives it, 0 for greedy; seed: of the sampler, 0 for its default.

    Raises TritapeError for what does not fit, and for a temperature where the configuration is greedy.
    """
    if not 1 <= len(prompt) <= MAX_PROMPT:
        raise TritapeError(f"prompt must have 1 to {MAX_PROMPT} tokens, not {len(prompt)}; change it")
    if not 1 <= tokens <= MAX_TOKENS:
        raise TritapeError(f"tokens must be from 1 to {MAX_TOKENS}, not {tokens}; ask for others")
    if len(pieces) > config.max_vocab:
        raise TritapeError(f"vocabulary must be at most {config.max_vocab}, not {len(pieces)}; choose another model")
    if config.serial and inverse:
        raise TritapeError("temperature must be 0 on a board with a serial configuration, not another; leave it out")
    if not 0 <= seed < 1 << 32:
        raise TritapeError(f"seed must be from 0 to {(1 << 32) - 1}, not {seed}; choose another")
    long = next((token for token, piece in enumerate(pieces) if len(piece) >= TEXT_BYTES), None)
    if long is not None:
        raise TritapeError(
            f"text of a token must have at most {TEXT_BYTES - 1} bytes, not the {len(pieces[long])} of token {long}; "
            "use a host for this model"
        )
    size = config.word_bytes
    words = [MARK | tokens % MAX_TOKENS << 16, 0 if end is None else end | ENDS, inverse, seed, *prompt]
    words[-1] |= LAST
    head = b"".join(word.to_bytes(4, "little").ljust(size, b"\0") for word in words)
    entry = text_words(size) * size
    texts = b"".join((bytes([len(piece)]) + piece).ljust(entry, b"\0") for piece in pieces)
    made = head.ljust(PROMPT_END * size, b"\0") + texts
    return made.ljust(script_words(config) * size, b"\xff")


def flash_image(
    board: Board,
    tape: TapeFile,
    prompt: str,
    tokens: int,
    *,
    temperature: float = 0.0,
    seed: int = 0,
    ignore_eos: bool = False,
    source: str = "tape",
) -> tuple[bytes, dict[str, Any]]:
    """What lies in the board's flash from its offset on, and what is in it, JSON-ready.

    Text and ids are those of `tritape run` with the same prompt, temperature and seed; `source` is what errors name.
    Raises TritapeError for a tape that is not for the board, and what `script` and the tokenizer refuse.
    """
    config = board.config
    limits = Identity.decode(identity(config, board.memory_words))
    check_geometry(limits, tape.geometry, source)
    header = read_header(tape.image, limits.geometry, source)
    check_limits(limits, header, len(tape.image), source)
    shape = ModelConfig.from_dict(tape.metadata["config"], source)
    codec = tape_tokenizer(tape, source)
    pieces, ids = token_pieces(codec, header.vocab), list(codec.encode(prompt))
    ends = [] if ignore_eos else sorted(codec.eos_ids)
    if len(ends) > 1:
        raise TritapeError(
            f"{source}: tokenizer must have at most one token that ends a text, not {ends}; add --ignore-eos"
        )
    inverse = inverse_temperature(temperature, header.logit_fraction)
    made = script(config, pieces, ids, tokens, end=ends[0] if ends else None, inverse=inverse, seed=seed)
    assert board.flash is not None
    about = {
        "prompt_tokens": len(ids),
        "tokens": tokens,
        "script_bytes": len(made),
        "tape_bytes": len(tape.image),
        "offset": board.flash.offset,
        "tokens_per_second_projected": board.clock_hz / token_cycles(shape, config, board.word_cycles)[0],
    }
    return made + bytes(tape.image), about


def write_flash(board: Board, image: bytes) -> None:
    """Have openFPGALoader write an image. Raises TritapeError as `run_loader`."""
    with tempfile.TemporaryDirectory(prefix="tritape") as folder:
        path = Path(folder) / f"{board.name}.bin"
        path.write_bytes(image)
        run_loader(flash_command(board, path))


def require_flash(board: AnyBoard) -> Board:
    """The board, if it has its tape in flash. Raises TritapeError that names those that do."""
    if isinstance(board, Board) and board.flash is not None:
        return board
    known = [name for name, other in boards().items() if isinstance(other, Board) and other.flash is not None]
    raise TritapeError(
        f"board must have its tape in flash ({', '.join(known)}), not {board.name!r}; choose one of them"
    )


def flash_command(board: Board, image: Path) -> list[str]:
    """The command line of openFPGALoader that writes an image to its place in the board's flash."""
    assert board.flash is not None
    extra = ["--file-type", "raw", "-o", str(board.flash.offset)]
    return command(board, image, flash=True, extra=extra)


def iceprog_command(board: Board, image: Path) -> list[str]:
    """The same with IceStorm's iceprog, for boards with an FT2232H."""
    assert board.flash is not None
    return ["iceprog", "-o", str(board.flash.offset), str(image)]
