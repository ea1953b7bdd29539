"""The fault campaign: thousands of single faults in the whole accelerator, each followed to its end. `make faults`.

    python -m tritape.sim.faults.campaign [--design pipelined] [--count 15000] [--seed 0] [--jobs 2] [--shard I/N] [--out FILE]
    python -m tritape.sim.faults.campaign --only NUMBER

Every fault meets one session of a host (`session.Session`) with one device that lives as long as its process, and then a new host
that must get a booted device and the right logits. `--only` runs one fault and tells all about it. The record is kept in
`build/faults/`, so that what was interrupted goes on; it begins again when hardware, host or campaign change.

Outcomes: `masked`: nothing was wrong and nobody said anything; `repeated`: the link asked again; `detected`: the host was told
before it was given anything wrong; `late`: it was told after that; `silent`: it was not told; `killed`: there was no host left.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import random
import re
import sys
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import Progress

from tritape.base.package import source_digest
from tritape.sim.faults.classes import Clean, Fault, draw
from tritape.sim.faults.session import Result, Session, Wire, campaign_model
from tritape.sim.faults.simulation import Armed, FaultySimulation, Kind
from tritape.sim.faults.summary import markdown, summary, tables
from tritape.sim.faults.top import DESIGNS, PATIENCE, WATCHDOG

_CHUNK = 50
_LOADED = 128
"""After every so many faults, and after every host that was killed, the new host has the whole tape checked and written."""


@dataclass(frozen=True)
class Outcome:
    """What became of one fault.

    `struck`: it took place (a burst after the session's last does not). `changed`: a logit differed, be it of a token that nobody
    was given. `by`: who told. `later`: cycles from the fault to the reply that told. `recovered`: a new host got a booted device
    and right logits as it was; `reachable`: or at least after a new configuration. `took`: cycles of that. `in_time`: of a tape
    fault, told within the token that reads it.
    """

    number: int
    kind: str
    about: str
    outcome: str
    struck: bool
    changed: bool
    by: str
    later: int | None
    recovered: bool
    reachable: bool
    took: int
    in_time: bool | None
    error: str


def told_by(error: str) -> str:
    """Who detected a fault, from what the host says."""
    if found := re.search(r"\(fault (\d+)\)", error):
        return f"fault {found[1]}"
    for part, name in (
        ("CRC-32 must be right", "CRC of a section"),
        ("memory must be read without", "error of the memory"),
        ("memory of the device must answer", "status of the memory"),
        ("memory must keep", "CHECK"),
        ("must answer, not stay silent", "silence"),
        ("must be frames", "link"),
        ("must be booted", "not booted"),
        ("must go on to the last token", "stopped"),
        ("within the tape's vocabulary", "vocabulary"),
        ("must be loaded before", "header as the host read it"),
    ):
        if part in error:
            return name
    return "other"


class Runner:
    """One device and its faults, one after the other."""

    def __init__(self, design: str, seed: int) -> None:
        self.seed = seed
        self.simulation = FaultySimulation(DESIGNS[design])
        self.session = Session(self.simulation, campaign_model())
        random.seed(f"{seed} clean")
        wire = self._wire(None)
        result = self.session.run(wire)
        if result.error or result.wrong or result.changed or result.accepted != len(self.session.runs):
            raise AssertionError(f"a session without a fault must be right, not {result}")
        self.clean = Clean(self.simulation.counts(), wire.sent, wire.received)

    def _wire(self, fault: Fault | None) -> Wire:
        self.simulation.set_memory(self.session.bare)
        if fault is not None and fault.armed is not None and not fault.loaded:
            self.simulation.arm(fault.armed)
        elif fault is None:
            self.simulation.arm(Armed(Kind.NONE))
        return Wire(self.simulation, fault.damage if fault else None)

    def run(self, number: int) -> Outcome:
        """One fault."""
        random.seed(f"{self.seed} host {number}")
        kind, fault = draw(number, self.seed, self.session, self.clean)
        wire = self._wire(fault)

        def loaded() -> None:
            if fault.armed is not None and fault.loaded:
                self.simulation.arm(fault.armed)

        result = self.session.run(wire, loaded)
        counts = self.simulation.counts()
        struck = result.killed or fault.damage is not None or bool(counts.struck)
        later = None
        if result.error and counts.struck:
            later = (wire.told or counts.cycle) - counts.struck
        started = counts.cycle
        recovered, why = self.session.recover(load=result.killed or number % _LOADED == 0)
        took = self.simulation.counts().cycle - started
        reachable = recovered
        if not recovered or kind.startswith("inside"):
            self.simulation.configure()
            reachable, _ = self.session.recover(load=False)
        text = result.error or ("" if recovered else f"afterwards: {why}")
        told = told_by(text) if result.error else ""
        in_time = None
        if fault.reader is not None and struck:
            in_time = result.error is not None and result.accepted <= fault.reader and not result.wrong
        return Outcome(
            number,
            kind,
            fault.about,
            _outcome(result),
            struck,
            result.changed,
            told,
            later,
            recovered,
            reachable,
            took,
            in_time,
            text,
        )


def _outcome(result: Result) -> str:
    if result.wrong:
        return "late" if result.error else "silent"
    if result.error:
        return "detected"
    if result.killed:
        return "killed"
    return "repeated" if result.resent else "masked"


RECORDS = Path("build/faults")
_runner: Runner | None = None


def _begin(design: str, seed: int) -> None:
    global _runner
    _runner = Runner(design, seed)


def _chunk(numbers: list[int]) -> list[dict[str, Any]]:
    assert _runner is not None, "a process begins with a device"
    return [asdict(_runner.run(number)) for number in numbers]


def campaign(design: str, numbers: Iterable[int], seed: int, jobs: int) -> Iterator[dict[str, Any]]:
    """The outcomes of all numbers, as they come, on `jobs` processes."""
    todo = list(numbers)
    chunks = [todo[start : start + _CHUNK] for start in range(0, len(todo), _CHUNK)]
    if jobs == 1:
        runner = Runner(design, seed)
        yield from (asdict(runner.run(number)) for number in todo)
        return
    FaultySimulation(DESIGNS[design]).close()  # built once
    with multiprocessing.Pool(jobs, _begin, (design, seed)) as pool:
        for outcomes in pool.imap_unordered(_chunk, chunks):
            yield from outcomes


def _record(path: Path, key: str) -> dict[int, dict[str, Any]]:
    """Outcomes that an earlier run of the same campaign left, by number; the record is begun where there is none."""
    path.parent.mkdir(parents=True, exist_ok=True)
    found = _read(path, key)
    lines = [json.dumps(line) + "\n" for line in ({"key": key}, *found.values())]
    path.write_text("".join(lines))  # without what an interruption cut
    return found


def _read(path: Path, key: str) -> dict[int, dict[str, Any]]:
    """What a record of these sources holds."""
    lines = path.read_text().splitlines() if path.exists() else []
    if not lines or json.loads(lines[0]) != {"key": key}:
        return {}
    found = {}
    for line in lines[1:]:
        try:
            outcome = json.loads(line)
        except ValueError:
            continue  # cut by an interruption
        found[outcome["number"]] = outcome
    return found


def main() -> int:
    """The command line. Status 1 where a bar is broken."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--design", choices=DESIGNS, default="pipelined")
    parser.add_argument("--count", type=int, default=15_000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--out", type=Path, help="JSON of the tables, by design")
    parser.add_argument(
        "--shard", default="0/1", help="I/N: this of N parts, each with a record of its own; 0/1 reads all records"
    )
    parser.add_argument("--markdown", action="store_true", help="print the tables as docs/faults.md has them")
    parser.add_argument("--only", type=int, help="number of the one fault to run")
    chosen = parser.parse_args()
    if chosen.only is not None:
        if chosen.only < 0:
            parser.error(f"only must be the number of a fault, from 0, not {chosen.only}")
        print(json.dumps(asdict(Runner(chosen.design, chosen.seed).run(chosen.only)), indent=1))
        return 0
    part, parts = map(int, chosen.shard.split("/"))
    name = f"{chosen.design}-{chosen.seed}"
    path = RECORDS / (f"{name}.jsonl" if parts == 1 else f"{name}-{part}-{parts}.jsonl")
    sources = source_digest("hw", "model", "host", "sim/faults")
    done = _record(path, sources)
    for other in RECORDS.glob(f"{name}-*.jsonl") if parts == 1 else ():
        done |= _read(other, sources)
    todo = [number for number in range(part, chosen.count, parts) if number not in done]
    with path.open("a") as record, Progress(transient=True) as progress:
        task = progress.add_task("faults", total=chosen.count, completed=chosen.count - len(todo))
        for outcome in campaign(chosen.design, todo, chosen.seed, chosen.jobs):
            done[outcome["number"]] = outcome
            record.write(json.dumps(outcome) + "\n")
            progress.advance(task)
    outcomes = [done[number] for number in sorted(done) if number < chosen.count]
    about = {"watchdog_bits": WATCHDOG, "patience_bits": PATIENCE, "sources": sources}
    result = summary(outcomes, design=chosen.design, seed=chosen.seed, **about)
    if chosen.out:
        others = json.loads(chosen.out.read_text()) if chosen.out.exists() else {}
        chosen.out.write_text(json.dumps(others | {chosen.design: result}, indent=1) + "\n")
    if chosen.markdown:
        print(markdown(result))
    for table in () if chosen.markdown else tables(result):
        Console(width=170).print(table)
    print(json.dumps(result["bars"]))
    return int(any(result["violations"].values()))


if __name__ == "__main__":
    sys.exit(main())
