"""What is inside a unit: registers by their names, states of its FSMs, words of its memories. For invariants of inductions."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from amaranth.hdl import Const, Fragment, Shape, Signal, Value
from amaranth.hdl._mem import MemoryInstance
from amaranth.lib import wiring

from tritape.base.errors import TritapeError


class Inside:
    """An elaborated unit. `path` is that of a submodule, by the names that its `elaborate` gives."""

    def __init__(self, dut: wiring.Component) -> None:
        self.fragment = Fragment.get(dut, "formal")

    def part(self, *path: str) -> Fragment:
        """A submodule."""
        fragment = self.fragment
        for name in path:
            fragment = fragment.find_subfragment(name)
        return fragment

    def signal(self, name: str, *path: str) -> Signal:
        """A register or wire that the unit itself drives. Raises `TritapeError` unless there is exactly one of that name."""
        found = {id(signal): signal for signal in _driven(self.part(*path)) if signal.name == name}
        if len(found) != 1:
            names = sorted({signal.name for signal in _driven(self.part(*path))})
            raise TritapeError(f"name must be that of one signal of {path}, not {name!r}; there are {names}")
        return next(iter(found.values()))

    def registers(self, *path: str) -> list[Signal]:
        """Every register of a submodule and of those in it that a reset sets, memories apart."""
        return list({id(signal): signal for signal in _registers(self.part(*path))}.values())

    def state(self, name: str, *path: str) -> Value:
        """Whether the FSM of a submodule is in state `name`."""
        fsm: Any = self.part(*path).find_generated("fsm")
        return fsm.state == fsm.encoding[name]

    def states(self, *path: str) -> list[str]:
        """The states of the FSM of a submodule."""
        fsm: Any = self.part(*path).find_generated("fsm")
        return list(fsm.encoding)

    def known(self, *path: str) -> Value:
        """The FSM of a submodule is in one of its states. (An induction's step begins in any code, and from a code that is no state
        an FSM never moves.)"""
        fsm: Any = self.part(*path).find_generated("fsm")
        return fsm.state < len(fsm.encoding)

    def word(self, address: Value, *path: str) -> Signal:
        """What stands in a memory at an address now: one more read port, for the proof only."""
        memory = self.part(*path)
        assert isinstance(memory, MemoryInstance)
        stored = memory._data
        wide = Signal(Shape.cast(stored.shape).width, name="peeked")
        at = address[: (stored.depth - 1).bit_length()]
        memory.read_port(domain="comb", addr=at, data=wide, en=Const(1), transparent_for=())
        return wide


def _driven(fragment: Fragment) -> Iterator[Signal]:
    for statements in fragment.statements.values():
        for statement in statements:
            yield from statement._lhs_signals()


def _registers(fragment: Fragment) -> Iterator[Signal]:
    for statement in fragment.statements.get("sync", ()):
        yield from (signal for signal in statement._lhs_signals() if not signal.reset_less)
    for part, _, _ in fragment.subfragments:
        yield from _registers(part)
