"""RESTART leads to idle from any state: whatever stands in the registers before."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from amaranth.hdl import Assert, Module, Signal, Value

from tritape.hw.link.commands import Command
from tritape.hw.link.host_link import HostLink
from tritape.hw.link.token_runner import TokenRunner
from tritape.hw.token_loop import TokenLoop
from tritape.sim.proofs.hold import drive, previous
from tritape.sim.proofs.units import SMALL

IDLE_CYCLES = 3


def _since(m: Module, condition: Value, limit: int) -> Signal:
    """Cycles for which a condition has held without a break, up to `limit`; this one not counted."""
    count = Signal(range(limit + 1))
    with m.If(~condition):
        m.d.sync += count.eq(0)
    with m.Elif(count != limit):
        m.d.sync += count.eq(count + 1)
    return count


def loop_begins(kind: type[TokenLoop] = TokenLoop) -> Callable[[Module], list[Value]]:
    """A cycle after `restart` every register of the token loop is as after power-up, counters apart."""

    def build(m: Module) -> list[Value]:
        bench = drive(m, kind(SMALL, memory_words=64))
        after = previous(m, bench.outer["restart"])
        for path in ("reader", "sequencer", "engine", "vector"):
            for register in bench.inside.registers(path):
                m.d.comb += Assert(~after | (register == register.init), f"{path} {register.name} begins anew")
        return bench.free

    return build


def runner_stops(kind: type[Any] = TokenRunner, slots: int = 0) -> Callable[[Module], list[Value]]:
    """A runner without a tape is idle after three cycles, wherever it was, and one more for each of several slots."""

    def build(m: Module) -> list[Value]:
        bench = drive(m, kind(slots) if slots else kind())
        runner, outer = bench.inside, bench.outer
        m.d.comb += Assert(runner.known(), "the FSM is in one of its states")
        count = _since(m, ~outer["configured"] & ~outer["go"], IDLE_CYCLES + slots)
        offered = outer["steps" if slots else "tokens"][0]
        idle = ~outer["running"] & ~outer["busy"] & ~offered & runner.state("CHECK")
        m.d.comb += Assert((count != IDLE_CYCLES + slots) | idle, "the runner is idle")
        return bench.free

    return build


def restart_is_obeyed(kind: type[HostLink] = HostLink) -> Callable[[Module], list[Value]]:
    """The link obeys RESTART at once, also while tokens run, and turns from the memory to the token loop."""

    def build(m: Module) -> list[Value]:
        bench = drive(m, kind(SMALL, memory_words=64, counter_count=15, patience=4))
        link, outer = bench.inside, bench.outer
        header, right = link.signal("header"), link.signal("spent", "port")
        admitted = link.state("ADMIT") & (header[:8] == Command.RESTART) & right
        decoded = link.state("DECODE") & (header[:5] == Command.RESTART)
        m.d.comb += [
            Assert(~previous(m, admitted) | link.state("DECODE"), "RESTART is admitted"),
            Assert(~decoded | outer["restart"], "RESTART gives a pulse"),
            Assert(~previous(m, decoded) | (link.state("ANSWER") & ~outer["memory_mode"]), "RESTART is answered"),
        ]
        return bench.free

    return build
