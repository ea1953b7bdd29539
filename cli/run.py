"""`tritape run` and `tritape chat`: text from a board."""

from __future__ import annotations

import signal
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import typer

from tritape.base.errors import TritapeError
from tritape.cli import app
from tritape.cli.common import IgnoreEOS, console, write, write_json
from tritape.cli.device import (
    Baud,
    BoardName,
    DraftName,
    ModelPath,
    Port,
    Seed,
    Temperature,
    draft_for,
    find_model,
    load,
    open_device,
    set_sampler,
)
from tritape.cli.model import JsonFile
from tritape.host.chat import Conversation
from tritape.model.open import OpenModel
from tritape.model.text.stream import until_end

Tokens = Annotated[int, typer.Option("--tokens", "-n", help="Tokens to generate.")]
HELP = "/save FILE, /load FILE, /reset, /quit; an empty line goes on"


@app.command()
def run(
    port: Port,
    prompt: Annotated[str, typer.Argument(help="Text to go on from; it must not end in a space.")],
    model: ModelPath = None,
    tokens: Tokens = 64,
    temperature: Temperature = 0.0,
    seed: Seed = 0,
    ignore_eos: IgnoreEOS = False,
    draft: DraftName = None,
    board: BoardName = None,
    baud: Baud = None,
    json_file: JsonFile = None,
) -> None:
    """Generate text on a board. The model is loaded first, unless it is there already."""
    source = find_model(model, board)
    ids = _check(source, prompt, tokens)
    guesses = draft_for(draft, source)
    with open_device(port, board, baud) as device:
        load(device, source)
        device.speculate(guesses)
        set_sampler(device, temperature, seed)
        write(prompt)
        ends = frozenset() if ignore_eos else source.codec.eos_ids
        stream = source.codec.stream(ids)
        pieces: list[str] = []
        generated: list[int] = []
        device.reset()
        started = time.monotonic()
        for token in until_end(device.generate_tokens(ids, tokens), ends):
            generated.append(token)
            pieces.append("" if token in ends else stream.push(token))
            write(pieces[-1])
        seconds = time.monotonic() - started
        pieces.append(stream.finish())
        write(pieces[-1] + "\n")
        counters = device.counters()
    result: dict[str, Any] = {
        "text": "".join(pieces),
        "token_ids": generated,
        "finish_reason": "stop" if generated[-1] in ends else "length",
        "tokens": len(generated),
        "prompt_tokens": len(ids),
        "seconds": seconds,
        "tokens_per_second": len(generated) / seconds,
        **(device.drafted.report() if draft is not None else {}),
        "resent_commands": device.link.resent,
        "crc_errors": counters["crc_errors"],
    }
    if json_file is not None:
        write_json(json_file, result)
    if counters["crc_errors"]:
        raise TritapeError(
            f"CRC-32 of every section must be right, not wrong {counters['crc_errors']} times (first: section "
            f"{counters['first_bad_section']}); load the tape again, or lower the clock"
        )


@app.command()
def chat(
    port: Port,
    model: ModelPath = None,
    conversation: Annotated[
        Path | None,
        typer.Option("--conversation", "-c", help="Go on with this file, if it exists; it is saved at the end."),
    ] = None,
    tokens: Tokens = 64,
    temperature: Temperature = 0.7,
    seed: Seed = 0,
    ignore_eos: IgnoreEOS = False,
    draft: DraftName = None,
    board: BoardName = None,
    baud: Baud = None,
) -> None:
    """Write with a model in turns. The recurrent state is the whole memory of a conversation: a file of a few kilobytes."""
    source = find_model(model, board)
    guesses = draft_for(draft, source)
    with open_device(port, board, baud) as device:
        load(device, source)
        device.speculate(guesses)
        set_sampler(device, temperature, seed)
        talk = Conversation(device, source.codec, ignore_eos=ignore_eos)
        if conversation is not None and conversation.exists():
            talk.load(conversation, source.sha256)
            write(talk.text)
        console.print(HELP, style="dim", highlight=False)
        while (line := _read_line()) is not None and line.strip() != "/quit":
            if line.startswith("/"):
                talk = _command(line, talk, source, device, ignore_eos)
            elif line or talk.text:
                _answer(talk, line, tokens)
        if conversation is not None:
            talk.save(conversation, source.sha256)


def _answer(talk: Conversation, line: str, tokens: int) -> None:
    """Let the model go on; Ctrl-C ends its turn."""
    with _interruptible() as interrupted:
        pieces = talk.say(line, tokens)
        for piece in pieces:
            write(piece)
            if interrupted():
                pieces.close()
                break
    write("\n")


def _command(line: str, talk: Conversation, source: OpenModel, device: Any, ignore_eos: bool) -> Conversation:
    """Obey a line that begins with a slash; what is wrong with it is said, and the conversation goes on."""
    name, _, argument = line.strip().partition(" ")
    if name == "/reset":
        return Conversation(device, source.codec, ignore_eos=ignore_eos)
    try:
        if name == "/save" and argument:
            talk.save(Path(argument), source.sha256)
            console.print(f"{argument} saved", style="dim", highlight=False, soft_wrap=True)
        elif name == "/load" and argument:
            talk.load(Path(argument), source.sha256)
            write(talk.text + "\n")
        else:
            raise TritapeError(f"command must be one of {HELP}, not {line!r}; try again")
    except (TritapeError, OSError) as error:
        console.print(str(error), style="red", highlight=False, soft_wrap=True)
    return talk


def _read_line() -> str | None:
    """A line from standard input; None at its end or at Ctrl-C."""
    if sys.stdin.isatty():
        sys.stderr.write("> ")
        sys.stderr.flush()
    try:
        line = sys.stdin.readline()
    except KeyboardInterrupt:
        return None
    return line.rstrip("\n") if line else None


@contextmanager
def _interruptible() -> Iterator[Any]:
    """Ctrl-C sets a flag instead of tearing a command apart; yields a function that reads it."""
    pressed: list[int] = []
    before = signal.signal(signal.SIGINT, lambda number, _frame: pressed.append(number))
    try:
        yield lambda: bool(pressed)
    finally:
        signal.signal(signal.SIGINT, before)


def _check(source: OpenModel, prompt: str, tokens: int) -> list[int]:
    if tokens < 1:
        raise TritapeError(f"tokens must be at least 1, not {tokens}; ask for more")
    ids = source.codec.encode(prompt)
    if not ids:
        raise TritapeError("prompt must have at least one token, not none; give some text")
    return ids
