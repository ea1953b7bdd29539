"""Cells by unit: what is read from Yosys, and a small hierarchy through it."""

from __future__ import annotations

import pytest
from amaranth.hdl import Module, signed
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from tritape.base.errors import TritapeError
from tritape.rtl_gen.units import FAMILIES, UnitArea, count_units, units_area


class Inner(wiring.Component):
    def __init__(self) -> None:
        super().__init__({"a": In(signed(16)), "b": In(signed(16)), "product": Out(signed(32))})

    def elaborate(self, platform: object) -> Module:
        m = Module()
        m.d.sync += self.product.eq(self.a * self.b)
        return m


class Outer(wiring.Component):
    def __init__(self) -> None:
        super().__init__({"a": In(signed(16)), "b": In(signed(16)), "x": Out(signed(32)), "y": Out(signed(32))})

    def elaborate(self, platform: object) -> Module:
        m = Module()
        m.submodules.first = first = Inner()
        m.submodules.second = second = Inner()
        m.d.comb += [first.a.eq(self.a), first.b.eq(self.b), second.a.eq(self.b), second.b.eq(self.b)]
        m.d.comb += [self.x.eq(first.product), self.y.eq(second.product)]
        return m


def test_counts_parts_as_often_as_they_are_used() -> None:
    stat = {
        "modules": {
            "\\top": {"num_cells_by_type": {"\\top.unit": 1, "SB_DFF": 7}},
            "\\top.unit": {"num_cells_by_type": {"\\top.unit.a": 2, "SB_LUT4": 1, "SB_DFFESR": 3}},
            "\\top.unit.a": {"num_cells_by_type": {"\\top.unit.a.b": 1, "SB_LUT4": 10, "SB_MAC16": 1}},
            "\\top.unit.a.b": {"num_cells_by_type": {"\\top.unit.a.b.c": 1, "SB_CARRY": 4}},
            "\\top.unit.a.b.c": {"num_cells_by_type": {"SB_RAM40_4KNR": 1}},
        }
    }
    assert count_units(stat, FAMILIES["ice40"][1], depth=2) == [
        UnitArea("all", luts=21, carries=8, ffs=3, brams=2, dsps=2),
        UnitArea("a", luts=10, carries=4, ffs=0, brams=1, dsps=1),
        UnitArea("a.b", luts=0, carries=4, ffs=0, brams=1, dsps=0),
    ]


def test_multipliers_of_an_ice40() -> None:
    every, first, second = units_area(Outer(), "ice40")
    assert (every.name, first.name, second.name) == ("all", "first", "second")
    assert (every.dsps, first.dsps, second.dsps) == (2, 1, 1)
    assert every.brams == 0


def test_refuses_a_family() -> None:
    with pytest.raises(TritapeError, match=r"^family must be one of ecp5, ice40, not 'max10'; choose one$"):
        units_area(Outer(), "max10")
