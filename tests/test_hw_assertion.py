"""Preconditions checked by simulations, and absent from Verilog for a synthesiser."""

from __future__ import annotations

import pytest
from amaranth.hdl import Module, Signal
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out

from tritape.base.verilog_text import verilog_text
from tritape.hw.assertion import check
from tritape.sim.bench import check_streams
from tritape.sim.bench.simulator import SIMULATORS

TEXT = "a byte must not be 200"


class Picky(wiring.Component):
    """Passes bytes on; its neighbour must not send 200."""

    def __init__(self) -> None:
        super().__init__({"source": In(stream.Signature(8)), "sink": Out(stream.Signature(8))})

    def elaborate(self, platform: object) -> Module:
        m = Module()
        wiring.connect(m, wiring.flipped(self.source), wiring.flipped(self.sink))
        count = Signal(8)
        m.d.sync += count.eq(count + 1)
        with m.If(self.source.valid):
            check(m, platform, self.source.payload != 200, TEXT)
        return m


@pytest.mark.parametrize("simulator", SIMULATORS)
def test_broken_precondition_ends_the_simulation(simulator: str) -> None:
    good = list(range(100))
    check_streams(Picky(), inputs={"source": good}, expected={"sink": good}, simulator=simulator)
    with pytest.raises(Exception, match=TEXT):
        check_streams(Picky(), inputs={"source": [*good, 200]}, expected={"sink": [*good, 200]}, simulator=simulator)


def test_no_assertion_for_a_synthesiser() -> None:
    assert "assert" not in verilog_text(Picky(), "top")
    assert TEXT in verilog_text(Picky(), "top", checks=True)


def test_a_component_is_elaborated_once_for_each_kind_of_text() -> None:
    made = []

    class Counted(Picky):
        def elaborate(self, platform: object) -> Module:
            made.append(platform)
            return super().elaborate(platform)

    component = Counted()
    texts = [verilog_text(component, "top", checks=checks) for checks in (False, True, False, True)]
    assert texts[:2] == texts[2:]
    assert texts[0] != texts[1]
    assert len(made) == 2
    assert verilog_text(Counted(), "top") == texts[0]
