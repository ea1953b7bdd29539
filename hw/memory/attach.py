"""How a memory backend is connected to an accelerator."""

from __future__ import annotations

from typing import Any

from amaranth.hdl import Module, ResetInserter, Value
from amaranth.lib import wiring


def add_memory(m: Module, memory: wiring.Component, port: Any, restart: Value) -> None:
    """Make `memory` the submodule of that name and connect it with `port`, the accelerator's (`MemorySignature`).

    In a cycle with `restart` it forgets the reads under way: a memory with a port `restart` gets it, because something outside
    goes on meanwhile, such as a burst or a flash at work; any other memory is reset. Further ports are the caller's to connect.
    """
    for name in ("requests", "words", "write"):
        wiring.connect(m, getattr(port, name), getattr(memory, name))
    m.d.comb += [port.read_failed.eq(memory.read_failed), port.write_failed.eq(memory.write_failed)]
    if "restart" in memory.signature.members:
        m.submodules.memory = memory
        m.d.comb += memory.restart.eq(restart)
    else:
        m.submodules.memory = ResetInserter(restart)(memory)
