"""What is inside a unit: registers by their names, states of its FSMs, words of its memories. For invariants of inductions."""

from __future__ import annotations

import ast
import functools
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from amaranth.hdl import Const, Fragment, Shape, Signal, Value
from amaranth.hdl._mem import MemoryInstance
from amaranth.lib import wiring

from tritape.base.errors import TritapeError

_UNNAMED = ("$signal", "$like")


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
        signals = list({id(signal): signal for signal in _driven(self.part(*path))}.values())
        names = _names(signals)
        found = [signal for signal, its in zip(signals, names) if its == name]
        if len(found) > 1:  # a port and a register of the same name
            clocked = {
                id(signal) for each in self.part(*path).statements.get("sync", ()) for signal in each._lhs_signals()
            }
            found = [signal for signal in found if id(signal) in clocked]
        if len(found) != 1:
            raise TritapeError(f"name must be that of one signal of {path}, not {name!r}; there are {sorted(names)}")
        return found[0]

    def given(self, name: str, *path: str) -> Signal:
        """An input of a submodule, which the unit around it drives. Raises `TritapeError` unless there is exactly one."""
        statements = [each for group in self.part(*path).statements.values() for each in group]
        used = {id(signal): signal for each in statements for signal in each._rhs_signals() if signal.name == name}
        if len(used) != 1:
            raise TritapeError(f"name must be that of one input of {path}, not {name!r}")
        return next(iter(used.values()))

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
        """The FSM of a submodule is in one of its states. (An induction's step begins in any code, and an FSM never leaves a
        code that is no state.)"""
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


def _names(signals: list[Signal]) -> list[str]:
    """The name of each signal; of those that Amaranth leaves unnamed, because one statement makes several, that in the source."""
    names = [signal.name for signal in signals]
    unnamed = [at for at, name in enumerate(names) if name in _UNNAMED]
    for file in {str(signals[at].src_loc[0]) for at in unnamed}:
        for first, last, targets in _tuples(file):
            made = [
                at
                for at, signal in enumerate(signals)
                if signal.src_loc[0] == file and first <= signal.src_loc[1] <= last
            ]
            here = sorted((at for at in made if names[at] in (*_UNNAMED, *targets)), key=lambda at: signals[at].duid)
            own = [target for target, is_signal in targets.items() if is_signal]
            if len(here) == len(own):
                for at, target in zip(here, own):
                    names[at] = target
    return names


@functools.cache
def _tuples(file: str) -> list[tuple[int, int, dict[str, bool]]]:
    """Statements `a, b = Signal(..), c` of a file: first line, last line, names and whether a signal is made for them."""
    found = []
    for node in ast.walk(ast.parse(Path(file).read_text())):
        if (
            isinstance(node, ast.Assign)
            and isinstance(node.targets[0], ast.Tuple)
            and isinstance(node.value, ast.Tuple)
        ):
            pairs = zip(node.targets[0].elts, node.value.elts)
            names = {
                target.id if isinstance(target, ast.Name) else getattr(target, "attr", ""): isinstance(value, ast.Call)
                and "Signal" in ast.unparse(value.func)
                for target, value in pairs
            }
            found.append((node.lineno, node.end_lineno or node.lineno, names))
    return found


def _registers(fragment: Fragment) -> Iterator[Signal]:
    for statement in fragment.statements.get("sync", ()):
        yield from (signal for signal in statement._lhs_signals() if not signal.reset_less)
    for part, _, _ in fragment.subfragments:
        yield from _registers(part)
