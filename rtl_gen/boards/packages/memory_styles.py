"""Where Vivado puts the memories of a Verilog text: attributes for a `BusBoard` whose block RAM would not hold them all."""

from __future__ import annotations

import re
from collections.abc import Sequence
from fnmatch import fnmatchcase

from tritape.base.errors import TritapeError
from tritape.rtl_gen.toolchains.toolchain import module_and_memory

_MODULE = re.compile(r"^module \\?(\S+)")
_MEMORY = re.compile(r"^  reg (?:signed )?(?:\[\d+:0\] )?\\?(\S+) \[\d+:0\];")
_ZERO = re.compile(r"^    \\?\S+\s*\[\d+\] = \d+'s?[hdb]0+;$")


def styled(text: str, styles: Sequence[tuple[str, str]]) -> str:
    """The Verilog with `ram_style` on the memories that a pattern of `styles` (`BusBoard.memory_styles`) matches.

    UltraRAM begins with zeros and cannot be told to, so what says that a memory of style `ultra` begins with zeros is left out.

    Raises `TritapeError` for a pattern that matches nothing, and for UltraRAM that would begin with something else.
    """
    lines: list[str] = []
    module, ultra, first, met = "", "", False, set()
    for line in text.split("\n"):
        if ultra and first and line == "  initial begin":
            first = False
            continue
        if ultra and not first:
            if line == "  end":
                ultra = ""
            elif not _ZERO.match(line):
                raise TritapeError(
                    f"{ultra}: memory in UltraRAM must begin with zeros, not {line.strip()!r}; choose another style"
                )
            continue
        ultra = ""
        if found := _MODULE.match(line):
            module = found[1]
        elif found := _MEMORY.match(line):
            pattern, style = next((entry for entry in styles if _matches(module, found[1], entry[0])), ("", ""))
            if style:
                met.add(pattern)
                lines.append(f'  (* ram_style = "{style}" *)')
            if style == "ultra":
                ultra, first = f"{module}/{found[1]}", True
        lines.append(line)
    for pattern, _ in styles:
        if pattern not in met:
            raise TritapeError(f"memory_styles must name memories of the design, not {pattern!r}; correct it")
    return "\n".join(lines)


def _matches(module: str, memory: str, pattern: str) -> bool:
    of, name = module_and_memory(pattern)
    return fnmatchcase(module, of) and fnmatchcase(memory, name)
