"""The mutants of `hw/`, one after the other, and who notices each. `make mutants`.

    python -m tritape.sim.mutants.campaign [--count 240] [--seed 0] [--shard I/N] [--only NAME] [--out FILE] [--path PREFIX]

A mutant is one edit of one expression in a function that makes hardware (`sites`). It goes through the unit tests that concern
its file (`killers`), whole tokens, and the quick proofs, up to the first that fails. The record is kept in `build/mutants/`, so
what was interrupted goes on; who survived is tried again.

Outcomes: `killed`; `survived`; `equivalent`: survived, and `reasons` says why nothing can notice it; `unfinished`, which is
tried again; `equal`: the hardware stays as it was, in every component of `sim.proofs.units` that the file can shape and in every
test; `broken`: Amaranth refuses it. Only the first two count.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import sys
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from tritape.base.errors import TritapeError
from tritape.base.files import replacing
from tritape.base.package import PACKAGE
from tritape.sim.mutants.bench import PrivateCopy
from tritape.sim.mutants.killers import killers
from tritape.sim.mutants.reasons import EQUIVALENT
from tritape.sim.mutants.sites import Mutant, sites

RECORDS = Path("build/mutants")
COUNTED = ("killed", "survived")
NOT_COUNTED = ("equivalent", "equal", "broken")


@dataclass(frozen=True)
class Outcome:
    """What became of one mutant; `by`: the test or proof that noticed it; `source`: hash of the file as it was."""

    name: str
    path: str
    line: int
    function: str
    kind: str
    old: str
    new: str
    outcome: str
    by: str
    seconds: float
    source: str


def drawn(found: list[Mutant], seed: int) -> list[Mutant]:
    """All mutants in the order of the campaign: kinds take turns, and within a kind chance decides, by seed and name, so that
    most stay in their places when a file is edited."""
    by_kind: dict[str, list[Mutant]] = {}
    for mutant in sorted(found, key=lambda one: hashlib.sha256(f"{seed} {one.name}".encode()).digest()):
        by_kind.setdefault(mutant.kind, []).append(mutant)
    order = []
    while any(by_kind.values()):
        order += [by_kind[kind].pop(0) for kind in sorted(by_kind) if by_kind[kind]]
    return order


def source(path: str) -> bytes:
    """A file of `hw/` without a mutant."""
    return (PACKAGE.parent / "hw" / path).read_bytes()


class Judge:
    """Runs one mutant after the other in a private copy."""

    def __init__(self, folder: Path) -> None:
        self.copy = PrivateCopy(folder)
        self._sound: dict[str, bool] = {}  # test that failed with a mutant -> whether it passes without one
        self._texts: dict[str, set[str]] = {}  # file of tests -> hashes of the hardware that it runs without a mutant
        self._designs: dict[str, dict[str, Any]] = {}

    def judge(self, mutant: Mutant) -> tuple[str, str]:
        """(outcome, who noticed it)."""
        path, whole_text = mutant.path, source(mutant.path)
        if whole_text != (self.copy.tree / "hw" / path).read_bytes():
            raise TritapeError(
                f"{path} must stay as it is while mutants run, not change; run them in a copy of the tree"
            )
        edited = mutant.applied(whole_text)
        unit, whole = ([test for test in tests if self._there(test)] for tests in killers(path))
        self.copy.edit(path, edited)
        try:
            outcome, by, texts = self._tests(unit, path, edited)
            if outcome:
                return outcome, by
            if not self._changed(path, edited, unit, texts):
                return "equal", ""
            outcome, by, _ = self._tests(whole, path, edited)
            if outcome:
                return outcome, by
            proof = self.copy.call("prove", path)
            if proof.get("failed"):
                return "killed", f"proof {proof['failed']}"
            return "survived", proof.get("error", "")
        finally:
            self.copy.restore()

    def _there(self, test: str) -> bool:
        return (self.copy.tree / test.partition("::")[0]).exists()

    def _changed(self, path: str, edited: bytes, tests: list[str], texts: set[str]) -> bool:
        """Whether there is other hardware with the mutant: in a component, or in a test."""
        now = self.copy.call("designs", path)
        if "error" not in now and path not in self._designs:
            self.copy.restore()
            self._designs[path] = self.copy.call("designs", path)
            self.copy.edit(path, edited)
        if not now or now != self._designs[path]:
            return True
        before: set[str] = set()
        for test in tests:
            if test not in self._texts:
                self.copy.restore()
                self._texts[test] = set(self.copy.call("run_tests", [test])["texts"])
                self.copy.keep()
                self.copy.edit(path, edited)
            before |= self._texts[test]
        return not texts <= before

    def _tests(self, tests: list[str], path: str, edited: bytes) -> tuple[str, str, set[str]]:
        """(outcome or nothing, who, hashes of the hardware) of the first test that fails, or of all."""
        texts: set[str] = set()
        for test in tests:
            while True:
                left_out = [f"--deselect={name}" for name, sound in self._sound.items() if not sound]
                reply = self.copy.call("run_tests", [test, *left_out])
                if reply.get("error") == "time":
                    return "unfinished", test, texts  # says more of the machine than of the mutant
                if "error" in reply:
                    return "killed", f"{test}: {reply['error'][:200]}", texts
                texts |= set(reply["texts"])
                if not reply["failed"]:
                    break
                if self._is_sound(reply["failed"], path, edited):
                    return ("killed" if reply["built"] else "broken"), reply["failed"], texts
        return "", "", texts

    def _is_sound(self, test: str, path: str, edited: bytes) -> bool:
        """Whether a test passes without the mutant; those that do not are left out from now on."""
        if test not in self._sound:
            self.copy.restore()
            reply = self.copy.call("run_tests", [test])
            self._sound[test] = not reply.get("failed", "died")
            if not self._sound[test]:
                print(f"{test} must pass without a mutant; it is left out: {reply}", file=sys.stderr, flush=True)
            self.copy.keep()
            self.copy.edit(path, edited)
        return self._sound[test]


def _digest(text: bytes) -> str:
    return hashlib.sha256(text).hexdigest()[:16]


def recorded(pattern: str = "*.jsonl") -> dict[str, dict[str, Any]]:
    """What earlier runs found, by name of the mutant; what was found later counts."""
    found: dict[str, dict[str, Any]] = {}
    for path in sorted(RECORDS.glob(pattern), key=lambda one: one.stat().st_mtime):
        for line in path.read_text().splitlines():
            try:
                outcome = json.loads(line)
            except ValueError:
                continue  # cut by an interruption
            found[outcome["name"]] = outcome
    return found


def campaign(judge: Judge, todo: Iterator[Mutant]) -> Iterator[Outcome]:
    """The outcome of each."""
    for mutant in todo:
        start = time.monotonic()
        outcome, by = judge.judge(mutant)
        fields = {name: value for name, value in asdict(mutant).items() if name not in ("occurrence", "start", "end")}
        yield Outcome(
            name=mutant.name,
            outcome=outcome,
            by=by,
            seconds=round(time.monotonic() - start, 1),
            source=_digest(source(mutant.path)),
            **fields,
        )


def summary(outcomes: list[dict[str, Any]], seed: int) -> dict[str, Any]:
    """The figures of docs/mutants.md."""
    outcomes = [
        one | {"outcome": "equivalent"} if one["outcome"] == "survived" and one["name"] in EQUIVALENT else one
        for one in outcomes
    ]
    counts = Counter(one["outcome"] for one in outcomes)
    units: dict[str, Counter[str]] = {}
    for one in outcomes:
        units.setdefault(one["path"].partition("/")[0], Counter())[one["outcome"]] += 1
    tried = sum(counts[name] for name in COUNTED)
    return {
        "seed": seed,
        "tried": tried,
        "killed": counts["killed"],
        "share": round(counts["killed"] / tried, 4) if tried else 0,
        "not_counted": {name: counts[name] for name in NOT_COUNTED},
        "units": {name: dict(units[name]) for name in sorted(units)},
        "survivors": [one for one in outcomes if one["outcome"] == "survived"],
        "equivalent": [one for one in outcomes if one["outcome"] == "equivalent"],
        "mutants": outcomes,
    }


def markdown(result: dict[str, Any]) -> str:
    """The tables of docs/mutants.md: by unit, the survivors, and those that are equivalent with the reason."""
    names = ("killed", "survived", *NOT_COUNTED)
    lines = [
        "| `hw/` | tried | killed | survived | not counted: equivalent | equal | broken |",
        "|---|---|---|---|---|---|---|",
    ]
    for unit, counts in result["units"].items():
        cells = [unit, sum(counts.get(name, 0) for name in COUNTED), *(counts.get(name, 0) for name in names)]
        lines.append(f"| {' | '.join(map(str, cells))} |")
    total = [result["killed"], len(result["survivors"]), *(result["not_counted"][name] for name in NOT_COUNTED)]
    lines.append(f"| {' | '.join(map(str, ['all', result['tried'], *total]))} |")
    for title in ("survivors", "equivalent"):
        if not result[title]:
            continue
        lines += ["", f"| {title} | edit | why |", "|---|---|---|"]
        for one in result[title]:
            old, new = (" ".join(one[part].split()).replace("|", "\\|") for part in ("old", "new"))
            place = f"`{one['path']}`, {one['function']}"
            lines.append(f"| {place} | `{old}` -> `{new}` | {EQUIVALENT.get(one['name'], 'no test notices it yet')} |")
    return "\n".join(lines)


def main() -> int:
    """The command line. Status 1 where fewer than 97 % were killed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=240, help="mutants that count")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--shard", default="0/1", help="I/N: this of N parts, each with a record of its own")
    parser.add_argument(
        "--path", default="", help="only files of hw/ whose path begins with one of these, with commas between"
    )
    parser.add_argument("--only", help="name of the one mutant to try")
    parser.add_argument("--minutes", type=float, default=1e9, help="stop after so long")
    parser.add_argument("--again", action="store_true", help="try those that survived, and no others")
    parser.add_argument("--out", type=Path, help="JSON of all outcomes")
    parser.add_argument("--markdown", action="store_true", help="try none; print the tables of docs/mutants.md")
    chosen = parser.parse_args()
    RECORDS.mkdir(parents=True, exist_ok=True)
    order = drawn(sites(PACKAGE.parent / "hw"), chosen.seed)
    paths = tuple(chosen.path.split(","))
    part, parts = map(int, chosen.shard.split("/"))
    if chosen.only:
        order = [one for one in order if one.name == chosen.only]
        if not order:
            parser.error(f"only must be the name of a mutant, as benchmarks/mutants.json has them, not {chosen.only!r}")
    done = recorded()
    stop = time.monotonic() + 60 * chosen.minutes

    def known(mutant: Mutant) -> dict[str, Any] | None:
        one = done.get(mutant.name)
        return one if one and one["outcome"] != "unfinished" and one["source"] == _digest(source(mutant.path)) else None

    def todo() -> Iterator[Mutant]:
        counted = 0
        for place, mutant in enumerate(order):
            if counted >= chosen.count or time.monotonic() > stop:
                return
            if parts > 1:
                done.update(recorded())
            one = known(mutant)
            again = one is not None and one["outcome"] == "survived" and mutant.name not in EQUIVALENT and chosen.again
            if not mutant.path.startswith(paths) and not chosen.only:
                if place >= 1.4 * chosen.count:
                    return
                continue
            if place % parts == part and (chosen.only or again or (one is None and not chosen.again)):
                yield mutant
            one = known(mutant)
            counted += one is not None and one["outcome"] in COUNTED and mutant.name not in EQUIVALENT

    with (RECORDS / f"record-{part}.jsonl").open("a") as record:
        for outcome in () if chosen.markdown else campaign(Judge(RECORDS / f"copy-{part}"), todo()):
            done[outcome.name] = asdict(outcome)
            record.write(json.dumps(asdict(outcome)) + "\n")
            record.flush()
            about = f"{outcome.path}:{outcome.line} {outcome.kind} {outcome.old!r} -> {outcome.new!r}"
            print(f"{outcome.outcome:8} {outcome.seconds:6} s {about}: {outcome.by}"[:240], flush=True)
    outcomes = [one for mutant in order if (one := known(mutant))]
    result = summary(outcomes, chosen.seed)
    if chosen.out:
        with replacing(chosen.out) as stream:
            stream.write((json.dumps(result, indent=1) + "\n").encode())
    if chosen.markdown:
        print(markdown(result))
        return 0
    print(
        json.dumps(
            {name: value for name, value in result.items() if name not in ("mutants", "survivors", "equivalent")},
            indent=1,
        )
    )
    return int(result["share"] < 0.97)


if __name__ == "__main__":
    sys.exit(main())
