"""Code blocks of README and docs, run: each line of a shell and each block of Python, or the reason why it is not run here."""

from __future__ import annotations

import doctest
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
from small_board import SMALL, small_model
from test_docs import PAGES, ROOT, shell_lines, words_of

from tritape.model.tape.assembler import pack
from tritape.sim.virtual_board import VirtualBoard

ELSEWHERE = {
    r"/dev/ttyUSB0|uio:|^tritape board ": "needs a board or stays open: tests/test_cli_device.py, tests/test_hw_autoboot.py",
    r"^tritape (build|program) |^tritape flash (?!.* -o )": "tests/test_rtl_gen_build.py, tests/test_host_program.py",
    r"^cd build/kv260/|load  +# on the board": "needs Vivado and a board",
    r"^make |=.* make |tritape\.sim\.proofs|fuzz_readers|(faults|mutants)\.campaign|coverage\.report": (
        "targets of the Makefile, minutes to hours, and what reads their records"
    ),
    r"^(pip|sudo|export|lm_eval) ": "changes the machine, or asks the network",
    r"core/test_core0\.py|^fusesoc |litex_soc\.py": "tests/test_rtl_gen_integrate.py",
    r"2\.7b\.tape|random-2\.7b": "a model of gigabytes: tests/test_model_streaming.py has a small one",
    r"^tritape-train |build/runs/|emma/": "training: tests/test_train_*.py",
    r"^tritape explore ": "thousands of designs: tests/test_rtl_gen_explore.py",
}
"""Lines that are not run here, and why."""
PROGRAM = re.compile(
    r"^(SIM=\S+ |\w+=\$?\S+ )*(tritape|tritape-train|python3?|make|pip|sudo|export|cd|fusesoc|lm_eval) "
)
CHANGES = [page for page in PAGES if page.name == "CHANGELOG.md"]


def lines_of(page: Path) -> list[str]:
    """Shell lines of a page's code blocks, without what stands around the command."""
    lines = [line.strip().removeprefix("$ ") for line in shell_lines(page.read_text())]
    return [line for line in lines if PROGRAM.match(line + " ")]


def reason(line: str) -> str | None:
    return next((why for pattern, why in ELSEWHERE.items() if re.search(pattern, line)), None)


def test_every_reason_is_needed():
    """No line of a page is left out for a reason that is gone, and many lines are run."""
    lines = [line for page in PAGES if page not in CHANGES for line in lines_of(page)]
    for pattern in ELSEWHERE:
        assert any(re.search(pattern, line) for line in lines), pattern
    assert len([line for line in lines if reason(line) is None]) >= 10


WITH_LINES = [page for page in PAGES if page not in CHANGES and any(reason(line) is None for line in lines_of(page))]


@pytest.mark.long
@pytest.mark.parametrize("page", WITH_LINES, ids=lambda page: str(page.relative_to(ROOT)))
def test_lines_of_the_shell_run(page, tmp_path):
    """In a folder that holds what the repository holds, in the order of the page."""
    for name in ("docs", "benchmarks"):
        (tmp_path / name).symlink_to(ROOT / name)
    env = {**os.environ, "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"}
    for line in lines_of(page):
        if reason(line) is None:
            run = subprocess.run(
                words_of(line),
                cwd=tmp_path,
                env=env,
                stdin=subprocess.DEVNULL,
                capture_output=True,
                text=True,
                check=False,
            )
            assert run.returncode == 0, f"{line}\n{run.stdout[-1000:]}{run.stderr[-2000:]}"


def blocks_of(page: Path) -> list[str]:
    return re.findall(r"^```python\n(.*?)^```", page.read_text(), re.M | re.S)


SESSIONS = [page for page in PAGES if any(block.startswith(">>> ") for block in blocks_of(page))]


@pytest.mark.parametrize("page", SESSIONS, ids=lambda page: str(page.relative_to(ROOT)))
def test_sessions_print_what_they_say(page):
    result = doctest.testfile(str(page), module_relative=False)
    assert (result.failed, result.attempted > 0) == (0, True)


OTHER_BLOCKS = {
    "docs/quickstart.md": "test_the_block_about_a_board",
    "docs/integrate.md": "tests/test_rtl_gen_integrate.py, inside a SoC",
    "docs/server.md": "tests/test_host_server.py asks with the same client",
}
"""Pages with blocks that are no session, and what runs them."""


def test_every_other_block_has_its_test():
    found = {str(page.relative_to(ROOT)) for page in PAGES for block in blocks_of(page) if not block.startswith(">>> ")}
    assert found == set(OTHER_BLOCKS)


@pytest.mark.long
def test_the_block_about_a_board(tmp_path, monkeypatch, capsys):
    """Quick start's Python, as it stands there, but for the port and fewer tokens."""
    (block,) = blocks_of(ROOT / "docs/quickstart.md")
    config = SMALL.config
    pack(small_model(), tmp_path / "model.tape", config.groups, config.max_rows)
    monkeypatch.chdir(tmp_path)
    block = re.sub(r"\b100\b", "3", block).replace(", temperature=0.7", "")
    with VirtualBoard(SMALL) as virtual:
        names: dict[str, object] = {}
        exec(block.replace("/dev/ttyUSB0", virtual.port), names)
    assert capsys.readouterr().out
    answers = names["answers"]
    assert isinstance(answers, list)
    assert len(answers) == 3


def test_lines_are_told_from_other_text():
    assert PROGRAM.match("tritape boards ")
    assert not PROGRAM.match("tape in memory ")
    assert reason("tritape build icebreaker") is not None
    assert reason("tritape boards") is None
    assert shlex.split(words_of("$ tritape boards # all")[0]) == ["tritape"]
