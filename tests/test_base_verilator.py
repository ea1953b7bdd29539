"""From Verilog to an executable: what is shared between builds, and what makes another one."""

import subprocess

import pytest

from tritape.base import simulators, verilator
from tritape.base.errors import TritapeError

DESIGN = "module top(input [7:0] a, output [7:0] b); assign b = a + 8'd{}; endmodule\n"
MAIN = """
#include <cstdio>
#include "Vmodel.h"
int main() {
    Vmodel model;
    model.a = 5;
    model.eval();
    std::printf("%d", model.b);
}
"""


def build(folder, number, flags, steps=None):
    folder.mkdir()
    return verilator.build_executable(
        folder, DESIGN.format(number), "top", prefix="Vmodel", options=[], sources={"main.cpp": MAIN}, flags=flags,
        progress=steps.append if steps is not None else None,
    )  # fmt: skip


@pytest.mark.parametrize("flags", [verilator.QUICK, pytest.param(verilator.OPTIMISED, marks=pytest.mark.long)])
def test_two_designs_share_the_run_time_objects(tmp_path, monkeypatch, flags):
    """In folders with spaces, as a home, a cache and an environment may have them."""
    monkeypatch.setenv("TRITAPE_CACHE", str(tmp_path / "a cache"))
    package = tmp_path / "my environment"
    package.symlink_to(simulators.verilator_root())
    monkeypatch.setattr(simulators, "verilator_root", lambda: package)
    monkeypatch.setattr(verilator, "OPTIMISED", ("-O0",))  # of the run-time objects: what is shared, not how fast it is
    answers, entries, steps = [], [], []
    for number in (1, 2):
        executable = build(tmp_path / f"number {number}", number, flags, steps)
        answers.append(subprocess.run([executable], capture_output=True, text=True, check=True).stdout)
        entries.append(sorted(item.name for item in (tmp_path / "a cache" / "runtime").iterdir()))
        assert sorted(item.name for item in executable.parent.iterdir()) == ["model", "model.v"]
    assert answers == ["6", "7"]
    assert entries[0] == entries[1]
    assert len(entries[0]) >= 3
    units = 1 if flags == verilator.QUICK else len(steps) // 2 - 2
    assert steps == 2 * ["verilating", *(f"compiling {n}/{units}" for n in range(1, units + 1)), "linking"]
    assert flags == verilator.QUICK or units >= 3


def test_the_key_is_that_of_the_flags():
    assert verilator.build_key(verilator.QUICK) != verilator.build_key(verilator.OPTIMISED)


def test_the_first_error_ends_the_build(tmp_path):
    (tmp_path / "work").mkdir()
    with pytest.raises(TritapeError, match=r"(?s)must succeed, not fail while compiling; the log ends with:.*nonsense"):
        verilator.build_executable(
            tmp_path / "work", DESIGN.format(3), "top", prefix="Vmodel", options=[],
            sources={"main.cpp": "int main() { return nonsense; }"}, flags=verilator.QUICK,
        )  # fmt: skip
