"""Command line of tritape: one file a command group, registered on one typer application."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from io import TextIOWrapper

import typer

from tritape.base.cache import lend_to_tools
from tritape.base.errors import TritapeError
from tritape.base.extras import missing

app = typer.Typer(
    name="tritape",
    help="A MatMul-free language model checkpoint becomes an FPGA accelerator that writes text, bit for bit.",
    no_args_is_help=True,
    rich_markup_mode=None,  # in it `[n, t]` would be a colour and `:BUS:` a picture
    add_completion=False,
    pretty_exceptions_enable=False,
)


@app.callback()
def _commands() -> None:  # without it a command that is registered alone would have no name
    pass


COMMANDS: dict[str, tuple[str, ...]] = {
    "model": ("random-checkpoint", "pack", "golden", "inspect", "check", "perplexity"),
    "generate": ("generate",),
    "rtl": ("verilog",),
    "estimate": ("estimate",),
    "choose": ("choose",),
    "explore": ("explore",),
    "perf": ("perf",),
    "area": ("area",),
    "report": ("report", "timeline"),
    "build": ("build",),
    "boards": ("boards",),
    "program": ("program", "flash"),
    "run": ("run", "chat"),
    "bench": ("bench",),
    "serve": ("serve",),
    "board": ("board",),
    "memory": ("memory-test",),
    "tables": ("tables-test",),
    "verify": ("verify",),
    "doctor": ("doctor",),
}
"""Modules of this package, and the commands that each registers, in the order of the help."""


def register(command: str | None = None) -> None:
    """Import the module of a command, which adds its commands to `app`; all modules where no such command is known. One alone
    starts sooner, and `doctor` must run where others cannot be imported."""
    import importlib

    groups = [group for group, commands in COMMANDS.items() if command in commands] or list(COMMANDS)
    for group in groups:
        importlib.import_module(f"tritape.cli.{group}")


def settle_streams() -> None:
    """Let standard streams of any encoding carry any text: what an encoding has no character for is written as `\\uXXXX`,
    ASCII input is read as UTF-8, and a stream that is closed is an empty one."""
    for name in ("stdin", "stdout", "stderr"):
        stream = getattr(sys, name)
        if stream is None:
            setattr(sys, name, open(os.devnull, "r" if name == "stdin" else "w"))  # noqa: SIM115
        elif isinstance(stream, TextIOWrapper) and name == "stdin":
            ascii_only = stream.encoding.lower() in ("ascii", "us-ascii", "ansi_x3.4-1968")
            stream.reconfigure(encoding="utf-8" if ascii_only else stream.encoding, errors="replace")
        elif isinstance(stream, TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def main() -> None:
    """Run the command line; wrong input ends with exit status 2 and one line on stderr."""

    def start() -> None:
        register(sys.argv[1] if len(sys.argv) > 1 else None)
        app()

    guard("tritape", start)


def guard(program: str, start: Callable[[], None]) -> None:
    """Run a command line; what users can mend ends with exit status 2 and one line on stderr."""
    settle_streams()
    try:
        lend_to_tools()
        start()
    except TritapeError as error:
        why = str(error)
    except ModuleNotFoundError as error:
        why = f"package of {error.name} must be installed, not missing; see: tritape doctor"
        if error.name in ("torch", "triton"):
            why = str(missing(error.name, "train"))
    except UnicodeError as error:  # files of this machine's own encoding, which is not UTF-8
        why = f"text must be in the encoding of the environment, not {error}; set PYTHONUTF8=1"
    except OSError as error:  # a file that cannot be read or written, a full disk
        where = "file" if error.filename is None else error.filename
        said = error.strerror or type(error).__name__
        why = f"{where}: path must be readable or writable, not {said!r}; check path, permissions and free space"
    else:
        return
    sys.stderr.write(f"{program}: {why}\n")
    sys.exit(2)
