"""Running one tool of a build, with its log kept for whoever has to find out why it failed."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from tritape.base.errors import TritapeError
from tritape.base.extras import missing_tool

TAIL = 12
"""Lines of a failed tool's log that people see."""


class StepError(TritapeError):
    """A step of a build failed. `step` names it, `log` is what its tool printed."""

    def __init__(self, board: str, step: str, tool: str, log: str) -> None:
        self.step = step
        self.log = log
        super().__init__(f"{board}: {step} must succeed, not fail in {tool}: {error_line(log)}")

    @property
    def tail(self) -> str:
        """The last lines of the log."""
        return "\n".join(self.log.splitlines()[-TAIL:])


def run_tool(board: str, step: str, tool: str, arguments: Sequence[str], folder: Path, log_file: str) -> str:
    """Run `tool`, installed beside this Python, in `folder`; returns what it printed, which `folder/log_file` has too.

    Raises `StepError` if it fails and `TritapeError` if it is not there.
    """
    path = tool_path(tool)
    log = folder / log_file
    with log.open("wb") as stream:  # to a file, so that a long run can be watched
        done = subprocess.run([path, *arguments], cwd=folder, stdout=stream, stderr=subprocess.STDOUT, check=False)
    text = log.read_text(errors="replace")
    if done.returncode:
        raise StepError(board, step, tool, text)
    return text


def tool_path(tool: str) -> Path:
    """Where a tool of a build is: beside this Python. Raises `TritapeError` that says what to install."""
    path = Path(sys.executable).parent / tool
    if not path.exists():
        raise missing_tool(tool)
    return path


def tool_version(package: str) -> str:
    """Version of a package of tools. Raises `TritapeError` that says what to install."""
    try:
        return version(package)
    except PackageNotFoundError:
        raise missing_tool(package) from None


def error_line(log: str) -> str:
    """The first line of a log that says what went wrong, else its last line."""
    lines = [line.strip() for line in log.splitlines() if line.strip()]
    wrong = [line for line in lines if re.search(r"\bERROR\b|\w*Error: |terminate called|[Aa]ssertion ", line)]
    return (wrong or lines[-1:] or ["no message"])[0]
