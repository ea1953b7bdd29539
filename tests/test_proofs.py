"""Proofs (docs/verification.md): every component has one or a reason; the quick ones run here, and each finds its fault."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from amaranth.hdl import Assert, Module, Signal
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out

from tritape.base.errors import TritapeError
from tritape.hw.assertion import check
from tritape.hw.stream.skid import Skid

pytest.importorskip("z3")

from tritape.sim.proofs.broken import broken
from tritape.sim.proofs.catalogue import PROOFS
from tritape.sim.proofs.hold import Unit, drive, offers, rules, streams_out
from tritape.sim.proofs.inside import Inside
from tritape.sim.proofs.page import BEGIN, END, HOLES, HOLES_END, holes, table
from tritape.sim.proofs.paths import paths
from tritape.sim.proofs.solve import design, prove
from tritape.sim.proofs.units import NO_STREAM_LEAVES, PARTS, UNITS, components

PAGE = Path(__file__).parent.parent / "docs/verification.md"
QUICK = {proof.name: proof for proof in PROOFS if proof.quick}
FAULTS = [
    "link command ends",
    "restart is obeyed",
    "sequencer words",
    "AXI bursts",
    "order of queue",
    "engine banks",
    "hold Skid",
]
"""Faults that run here; `make prove` runs all."""


class Late(wiring.Component):
    """Its `valid` waits for `ready`, and its payload is a counter."""

    def __init__(self) -> None:
        super().__init__({"enable": In(1), "out": Out(stream.Signature(4))})

    def elaborate(self, platform: object) -> Module:
        m, seen, count = Module(), Signal(), Signal(4)
        with m.If(self.out.ready):
            m.d.sync += seen.eq(1)
        m.d.comb += [self.out.valid.eq(seen), self.out.payload.eq(count)]
        m.d.sync += count.eq(count + 1)
        with m.If(self.enable):
            check(m, platform, count != 9, "enable must be low at 9")
        return m


def test_every_component_has_a_proof_or_a_reason() -> None:
    found = {kind.__name__ for kind in components()}
    assert {PARTS.get(name, name) for name in UNITS} | set(NO_STREAM_LEAVES) == found
    assert len(found) > 60
    for name, make in NO_STREAM_LEAVES.items():
        assert not streams_out(make()), name
    for name, unit in UNITS.items():
        assert streams_out(unit.make()), name
        assert unit.hole or f"hold {name}" in {proof.name for proof in PROOFS}


@pytest.mark.parametrize("name", QUICK)
def test_proof(name: str) -> None:
    verdict = QUICK[name].run()
    assert verdict.proved, f"{verdict.failed} in cycle {verdict.step}: {verdict.trace}"


@pytest.mark.parametrize("name", FAULTS)
def test_proof_finds_its_fault(name: str) -> None:
    verdict = QUICK[name].run_fault()
    assert not verdict.proved
    assert not verdict.failed.startswith("no answer")
    assert verdict.failed


def test_every_fault_stands_in_the_source() -> None:
    for proof in PROOFS:
        if proof.fault:
            assert proof.kind is not None
            broken(proof.kind, *proof.fault)
    with pytest.raises(
        TritapeError, match=r"old must stand once in skid.py, not 0 times: 'nothing'; choose another line"
    ):
        broken(Skid, "nothing", "something")


def test_a_bounded_proof_finds_a_stream_that_does_not_hold() -> None:
    verdict = prove(design(rules(Unit(Late))), 6)
    assert not verdict.proved
    assert (verdict.failed, verdict.step) == ("out.payload_stays_until_ready", 2)
    assert Path(verdict.trace).read_text().startswith("$")
    assert prove(design(rules(Unit(Late))), 2).proved  # two cycles are too few


def test_a_valid_that_waits_for_ready_is_not_offered() -> None:
    assert prove(design(offers(Unit(lambda: Skid(4)))), 4, cover=True).proved
    assert not prove(design(offers(Unit(Late))), 6, cover=True).proved


def test_a_path_from_ready_is_found() -> None:
    class Connected(wiring.Component):
        def __init__(self) -> None:
            super().__init__({"source": In(stream.Signature(4)), "sink": Out(stream.Signature(4))})

        def elaborate(self, _platform: object) -> Module:
            m = Module()
            m.d.comb += [
                self.sink.payload.eq(self.source.payload),
                self.source.ready.eq(self.sink.ready),
                self.sink.valid.eq(self.source.valid & self.sink.ready),
            ]
            return m

    assert paths(Unit(Connected)) == ["sink.valid"]
    assert paths(Unit(lambda: Skid(4))) == []


def test_checks_are_assumptions() -> None:
    def build(m: Module) -> list:
        bench = drive(m, Late())
        count = Signal(4)
        m.d.sync += count.eq(count + 1)
        m.d.comb += Assert((count != 9) | ~bench.outer["enable"], "enable is low at 9")
        return bench.free

    assert prove(design(build), 12).proved


def test_registers_are_found_by_their_names() -> None:
    inside = Inside(UNITS["HostLink"].make())
    assert inside.signal("steps").name == "steps"
    assert inside.signal("position", "runner").name == "position"
    assert {"COMMAND", "HEADER", "END"} <= set(inside.states())
    with pytest.raises(TritapeError, match=r"name must be that of one signal of .*'runner'.*, not 'nowhere'"):
        inside.signal("nowhere", "runner")
    planner = Inside(UNITS["Planner"].make())
    assert len(planner.signal("start")) == len(
        planner.signal("size")
    )  # one statement makes both: Amaranth names neither


def test_page_has_the_table() -> None:
    """Every column but the seconds and an induction's k."""
    text = PAGE.read_text()
    rows = [
        {"name": p.name, "property": p.states, "assumption": p.assumption, "method": p.method, "seconds": ""}
        | {"mutation": p.mutation}
        for p in PROOFS
    ]

    def without_times(line: str) -> str:
        cells = re.split(r"(?<!\\)\|", line)
        if len(cells) > 6:
            cells[4], cells[5] = re.sub(r", k = \d+", "", cells[4]).strip(), ""
        return "|".join(cell.strip() for cell in cells)

    given = text.partition(BEGIN)[2].partition(END)[0].strip().splitlines()
    assert [without_times(line) for line in given[2:]] == [without_times(line) for line in table(rows)[2:]]
    assert text.partition(HOLES)[2].partition(HOLES_END)[0].strip().splitlines() == holes()
