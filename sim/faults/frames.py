"""Millions of frames against the host link in Verilator. Part of `make fuzz`.

    python -m tritape.sim.faults.frames --count 10000000 [--seed 0] [--jobs 2]

Random, damaged and repeated frames, with a memory and a token loop around the link that answer, fail or never do (`link.cpp` has
the properties). Each process has a seed of its own. Prints a line of JSON; after a failure seed, number and bytes of the frame.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from amaranth.hdl import ClockDomain, Module
from amaranth.lib import wiring
from amaranth.lib.wiring import In

from tritape.base.errors import TritapeError
from tritape.base.verilog_text import verilog_text
from tritape.hw.config import Config
from tritape.hw.counters import COUNTERS
from tritape.hw.link.commands import identity
from tritape.hw.link.host_link import HostLink
from tritape.hw.stream.forward import forward
from tritape.sim.fast.build import build_model

MAIN = Path(__file__).parent / "link.cpp"
CONFIG = Config(groups=4, max_hidden=32, max_intermediate=48, max_layers=2, max_vocab=256, max_rows=128)
MEMORY_WORDS = 64
PATIENCE = 7
"""Bits of the link's wait for the memory, for a board's 24: no frame of this fuzzer waits longer than it must."""


class LinkTop(wiring.Component):
    """`HostLink` in a clock domain without reset, `clk` a port."""

    def __init__(self) -> None:
        self._link = HostLink(CONFIG, memory_words=MEMORY_WORDS, counter_count=len(COUNTERS), patience=PATIENCE)
        super().__init__({**self._link.signature.members, "clk": In(1)})

    def elaborate(self, _platform: object) -> Module:
        m = Module()
        m.domains.sync = domain = ClockDomain(reset_less=True)
        m.submodules.link = inner = self._link
        m.d.comb += domain.clk.eq(self.clk)
        forward(m, self, inner, inner.signature.members)
        return m


def fuzz(count: int, seed: int = 0, jobs: int = 1) -> dict[str, Any]:
    """Send `count` frames on `jobs` processes: what there was. Raises TritapeError with seed and frame for the first failure."""
    defines = {"PATIENCE": 1 << PATIENCE}
    program = build_model(verilog_text(LinkTop(), "top", checks=True), "top", MAIN, defines=defines)
    told = identity(CONFIG, MEMORY_WORDS).hex()
    shares = [count // jobs + (job < count % jobs) for job in range(jobs)]
    children = [
        subprocess.Popen(
            [program, str(seed * 1000 + job), str(share), told],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for job, share in enumerate(shares)
    ]
    total: dict[str, Any] = {}
    failures = []
    for child in children:
        out, errors = child.communicate()
        if child.returncode or not out:
            failures.append(errors.strip() or f"exit status {child.returncode}")
            continue
        for name, value in json.loads(out).items():
            total[name] = max(total.get(name, 0), value) if name == "longest_wait" else total.get(name, 0) + value
    if failures:
        raise TritapeError("link must obey or release, not fail: " + "; ".join(failures))
    return {"seed": seed} | {name: value for name, value in total.items() if name not in ("seed", "failed")}


def main() -> int:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=100_000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1)
    chosen = parser.parse_args()
    try:
        print(json.dumps(fuzz(chosen.count, chosen.seed, chosen.jobs)))
    except TritapeError as error:
        print(error, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
