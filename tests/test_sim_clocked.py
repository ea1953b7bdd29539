"""Registers that work out their next value: another text, the same cycles."""

import random
import struct
from pathlib import Path

import pytest
from amaranth.hdl import Module, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out
from amaranth.sim import Simulator

from tritape.base.verilog_text import verilog_text
from tritape.sim.fast.build import build_model
from tritape.sim.fast.clocked import clocked
from tritape.sim.fast.runner import Process

MAIN = """
// Request 1: u32 words; bits 0 to 3 of each are inputs of a cycle. Reply: u32 outputs of each cycle, before the clock rises.
#include <cstring>
#include "Vmodel.h"
#include "pipe.h"
int main() {
    Vmodel model;
    model.clk = model.rst = 0;
    char code;
    uint32_t length;
    while (get(&code, 1) && get(&length, 4)) {
        std::vector<uint32_t> words(length / 4);
        if (!get(words.data(), length)) break;
        for (auto& word : words) {
            model.enable = word & 1; model.clear = word >> 1 & 1; model.turn = word >> 2 & 1;
            model.eval();
            word = model.total | model.shown << 8 | model.state << 16 | model.word << 24;
            model.clk = 1; model.eval();
            model.clk = 0;
        }
        reply(code, nullptr, 0, words.data(), length);
    }
}
"""


class Registers(wiring.Component):
    """Registers of every kind: with enable and clear, written in parts, of a state machine, read before they are loaded, and one
    that keeps its value although it was to change."""

    enable: In(1)
    clear: In(1)
    turn: In(1)
    total: Out(8)
    shown: Out(8)
    state: Out(2)
    word: Out(8)

    def elaborate(self, platform: object) -> Module:
        m = Module()
        following = Signal(8)
        m.d.comb += following.eq(self.total + 3)
        with m.If(self.enable):
            m.d.sync += self.total.eq(following)
        with m.If(self.clear):
            m.d.sync += self.total.eq(1)
        with m.If(self.turn):
            m.d.sync += self.word.eq(self.word + 5)
            with m.If(self.enable):
                m.d.sync += self.word.eq(self.word)
        with m.Else():
            m.d.sync += self.word[2:5].eq(self.total)
        with m.FSM() as fsm:
            with m.State("A"), m.If(self.enable):
                m.next = "B"
            with m.State("B"):
                m.next = "C"
            with m.State("C"), m.If(self.turn):
                m.next = "A"
        m.d.comb += self.state.eq(fsm.ongoing("B") + 2 * fsm.ongoing("C"))
        coming = Signal(8)  # a next value that an output shows, too
        m.d.comb += [coming.eq(self.word), self.shown.eq(coming)]
        with m.If(self.turn):
            m.d.comb += coming.eq(self.total)
        held = Signal(8)
        m.d.sync += held.eq(coming)
        with m.If(fsm.ongoing("A")):
            m.d.comb += self.shown.eq(held)
        return m


def reference(words: list[int]) -> list[int]:
    """Outputs in each cycle, from Amaranth's simulator."""
    component, seen = Registers(), []

    async def bench(ctx) -> None:
        for word in words:
            for bit, port in enumerate((component.enable, component.clear, component.turn)):
                ctx.set(port, word >> bit & 1)
            await ctx.delay(0)
            seen.append(
                ctx.get(component.total)
                | ctx.get(component.shown) << 8
                | ctx.get(component.state) << 16
                | ctx.get(component.word) << 24
            )
            await ctx.tick()

    simulator = Simulator(component)
    simulator.add_clock(1e-6)
    simulator.add_testbench(bench)
    simulator.run()
    return seen


def test_cycles_are_the_same(tmp_path: Path) -> None:
    text = verilog_text(Registers(), "top")
    assert clocked(text).count("always @*") <= text.count("always @*") - 3  # total, word, the state
    main = tmp_path / "main.cpp"
    main.write_text(MAIN)
    rng = random.Random(1)
    words = [rng.randrange(8) for _ in range(500)]
    with Process(build_model(text, "top", main)) as simulator:
        _, reply = simulator.call(1, struct.pack(f"<{len(words)}I", *words))
    assert list(struct.unpack(f"<{len(words)}I", reply)) == reference(words)


MODULE = """module top (clk, a, b, \\q$1 );
  input a;
  reg \\$3 ;
  reg \\q$1  = 1'h0;
  always @* begin
    if (initial_trigger) begin end
    \\$3  = \\q$1 ;
    if (a) begin
      \\$3  = b;
    end
  end
  always @(posedge clk)
    \\q$1  <= \\$3 ;
endmodule
"""


def test_text() -> None:
    assert (
        clocked(MODULE)
        == """module top (clk, a, b, \\q$1 );
  input a;
  reg \\$3 ;
  reg \\q$1  = 1'h0;
  always @(posedge clk) begin
    if (a) begin
      \\q$1   <= b;
    end
  end
endmodule
"""
    )


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("endmodule", "  assign c = \\$3 ;\nendmodule"),  # somebody else reads it
        ("endmodule", "  always @(posedge clk)\n    other <= \\$3 ;\nendmodule"),
        ("      \\$3  = b;", "      \\$3  = \\$3  ^ b;"),  # it reads itself
        ("      \\$3  = b;", "      \\$3  = b;\n      c = a;"),  # a process of two signals
        ("always @(posedge clk)", "always @(negedge clk)"),
    ],
)
def test_other_text_stays(old: str, new: str) -> None:
    text = MODULE.replace(old, new)
    assert text != MODULE
    assert clocked(text) == text


def test_a_value_that_is_kept_after_all_is_not_lost() -> None:
    """Only the first assignment of a process may go: a later one takes an earlier one back."""
    text = MODULE.replace("    end\n  end", "    end\n    \\$3  = \\q$1 ;\n  end")
    assert "    \\q$1   <= \\q$1 ;" in clocked(text)
