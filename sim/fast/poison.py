"""Verilog whose block RAM gives garbage wherever it may: what a design that passes with it cannot rely on."""

from __future__ import annotations

import re

from tritape.base.errors import TritapeError

_MODULE = re.compile(r"^module .*?^endmodule$", re.MULTILINE | re.DOTALL)
_NAME = r"(?P<name>\\\S+|\w+)"
_MEMORY = re.compile(
    r"\(\* no_rw_check = 32'd1 \*\)\n\s*reg (?:signed )?(?:\[(?P<high>\d+):0\] )?" + _NAME + r"\s*\[\d+:0\];"
)


def poisoned(verilog: str) -> str:
    """The Verilog text that `verilog_text` wrote, with its read-write collisions made visible: for the fast simulation.

    Memories with attribute `no_rw_check` promise that a word which is read while it is written is not used: on an FPGA it may
    be the old word, the new one, or neither. In the text that comes back such a read gives the old word with every bit
    inverted. All else is as before, so a design that keeps its promises computes the same.

    Raises `TritapeError` for a memory with that attribute whose writes or reads it cannot find.
    """
    return _MODULE.sub(lambda module: _module(module[0]), verilog)


def _module(text: str) -> str:
    for memory in _MEMORY.finditer(text):
        text = _poison(text, memory["name"], int(memory["high"] or 0) + 1)
    return text


def _poison(text: str, name: str, bits: int) -> str:
    """One memory: its reads are registers that load a word, its writes whole words under one condition."""
    word = re.escape(name) + r"\s*\[(?P<address>(?:[^][\n]|\[[^][\n]*\])*)\]"
    writes = [
        (match["enable"] or "1'h1", match["address"])
        for match in re.finditer(r"^ *(?:if \((?P<enable>[^\n]*)\)\n *)?" + word + " <= ", text, re.MULTILINE)
    ]
    every = re.findall(r"^ *" + re.escape(name) + r"\s*\[[^\n]*\] <= ", text, re.MULTILINE)

    def read(match: re.Match[str]) -> str:
        address = match["address"]
        met = " || ".join(f"(({enable}) && ({at}) == ({address}))" for enable, at in writes)
        return f"{match['loads']}{name} [{address}] ^ {{{bits}{{{met}}}}};"

    text, reads = re.subn(r"^(?P<loads> *\S+ <= )" + word + ";$", read, text, flags=re.MULTILINE)
    if not writes or len(writes) != len(every) or not reads:
        raise TritapeError(
            f"memory {name} must have clocked reads and writes of whole words, not {len(writes)} of {len(every)} writes and "
            f"{reads} reads of that kind; teach sim/fast/poison.py its form"
        )
    return text
