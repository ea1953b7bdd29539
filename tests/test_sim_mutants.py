"""The campaign of mutants: which edits it may make, in which order, and that it tells killed, equal and broken ones apart."""

from __future__ import annotations

import ast
from collections import Counter
from pathlib import Path

import pytest

from tritape.base.package import PACKAGE
from tritape.sim.mutants.campaign import Judge, drawn, source, summary
from tritape.sim.mutants.killers import UNITS, WHOLE, killers
from tritape.sim.mutants.reasons import EQUIVALENT
from tritape.sim.mutants.sites import Mutant, of_file, sites

HARDWARE = PACKAGE.parent / "hw"
SOURCE = '''"""Äh."""
from tritape.hw.assertion import check

LATENCY = 4


class Unit:
    def __init__(self, size: int = 3) -> None:
        self.size = size + 1

    def elaborate(self, platform: object) -> Module:
        m = Module()
        if self.size < 4:
            raise ValueError(f"size must be 4, not {self.size + 1}")
        check(m, platform, self.a == 7, "7")
        count = Signal(range(9), name=f"count_{1 + 2}")
        with m.If(~self.go & self.on):
            m.d.sync += count.eq(Mux(count >= 5, 0, count + 1))
        m.d.comb += self.full.eq(count.all())
        return m


def exceeds(value: Value) -> Value:
    return value << 2
'''


def edits(tmp_path: Path, source: str = SOURCE) -> list[Mutant]:
    (tmp_path / "unit.py").write_text(source)
    return list(of_file(tmp_path, tmp_path / "unit.py"))


def test_every_kind_of_edit_and_no_software(tmp_path: Path) -> None:
    found = edits(tmp_path)
    assert [(one.kind, one.old, one.new) for one in found] == [
        ("operator", "value << 2", "(value >> 2)"),
        ("constant", "2", "3"),
        ("constant", "2", "1"),
        ("constant", "9", "10"),
        ("constant", "9", "8"),
        ("inversion", "~self.go & self.on", "((~self.go & self.on) == 0)"),
        ("operator", "~self.go & self.on", "(~self.go | self.on)"),
        ("inversion", "~self.go", "(self.go)"),
        ("inversion", "Mux(count >= 5, 0, count + 1)", "(Mux(count >= 5, count + 1, 0))"),
        ("off by one", "count >= 5", "(count > 5)"),
        ("constant", "5", "6"),
        ("constant", "5", "4"),
        ("constant", "0", "1"),
        ("operator", "count + 1", "(count - 1)"),
        ("constant", "1", "2"),
        ("constant", "1", "0"),
        ("operator", "count.all()", "(count.any())"),
    ]
    whole = SOURCE.encode()
    for one in found:
        edited = one.applied(whole)
        ast.parse(edited)
        assert edited.replace(b" ", b"") != whole.replace(b" ", b"")
        assert whole.splitlines()[one.line - 1].decode().find(one.old.splitlines()[0]) >= 0


def test_names_and_order_stay_when_other_lines_are_edited(tmp_path: Path) -> None:
    before = drawn(edits(tmp_path), seed=0)
    after = drawn(edits(tmp_path, SOURCE.replace("value << 2", "value << 3")), seed=0)
    kept = {one.name for one in before} & {one.name for one in after}
    assert len(kept) == len(before) - 3
    for kind in ("constant", "inversion"):
        orders = [[one.name for one in all_ if one.name in kept and one.kind == kind] for all_ in (before, after)]
        assert orders[0] == orders[1]
    assert [one.kind for one in before[:4]] == ["constant", "inversion", "off by one", "operator"]
    assert drawn(edits(tmp_path), seed=1) != before


def test_the_hardware_has_thousands_of_them() -> None:
    found = sites(HARDWARE)
    assert len({one.name for one in found}) == len(found) > 4000
    assert set(Counter(one.kind for one in found)) == {"constant", "inversion", "off by one", "operator"}


def test_every_file_has_killers_that_exist() -> None:
    root = PACKAGE.parent
    for path in {one.path for one in sites(HARDWARE)}:
        unit, whole = killers(path)
        assert whole, path
        for test in (*unit, *whole):
            file, _, name = test.partition("::")
            assert (root / file).exists(), f"{path}: {file}"
            assert name.partition("[")[0] in (root / file).read_text(), test
    for start in (*UNITS, *WHOLE):
        assert any(str(file.relative_to(HARDWARE)).startswith(start) for file in HARDWARE.rglob("*.py")), start


def test_what_is_no_hardware_does_not_count() -> None:
    names = ("killed", "killed", "survived", "equal", "broken")
    outcomes = [{"name": str(n), "outcome": name, "path": "norm/a.py"} for n, name in enumerate(names)]
    outcomes.append({"name": next(iter(EQUIVALENT)), "outcome": "survived", "path": "norm/a.py"})
    result = summary(outcomes, 0)
    assert (result["tried"], result["killed"], result["share"]) == (3, 2, round(2 / 3, 4))
    assert result["not_counted"] == {"equivalent": 1, "equal": 1, "broken": 1}
    assert [one["name"] for one in result["survivors"]] == ["2"]
    assert [one["name"] for one in result["equivalent"]] == [next(iter(EQUIVALENT))]


@pytest.mark.long
def test_a_mutant_is_killed_and_what_cannot_be_built_is_told(tmp_path: Path) -> None:
    before = {path: path.read_bytes() for path in HARDWARE.rglob("*.py")}
    judge = Judge(tmp_path)
    found = [one for one in sites(HARDWARE) if one.path == "exceeds.py"]
    outcomes = {(one.old, one.new): judge.judge(one) for one in found[:1]}
    assert ("killed", "tests/test_hw_exceeds.py") in {(name, by.partition("::")[0]) for name, by in outcomes.values()}
    text = b"    return value[99999]  # no such bit\n"
    whole = source("exceeds.py")
    last = whole.rindex(b"    return ")
    broken = Mutant("exceeds.py", 1, "exceeds", "constant", "", text.decode(), 0, last, len(whole))
    assert judge.judge(broken)[0] == "broken"
    assert before == {path: path.read_bytes() for path in HARDWARE.rglob("*.py")}
