"""Contents for LiteDRAM's model of the chips, so that a measurement need not write them first."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable

from tritape.base.errors import TritapeError
from tritape.rtl_gen.litedram import Core
from tritape.sim.memory.pattern import _A, _B

MODEL_ROWS = 2048  # of a bank, fewer than the chips have; the model needs 11 address lines

_BANK = re.compile(r"^reg \[\d+:0\] (mem(?:_\d+)?)\[0:\d+\];$", re.MULTILINE)


def with_pattern(core: Core, size: int) -> Core:
    """The same core, its model's first `size` bytes those of `pattern.contents`.

    `TritapeError` for a core without a model, or a size above the model's.
    """
    if core.has_model and size > core.size:
        raise TritapeError(f"size must be at most the model's {core.size} bytes, not {size!r}")
    declared = [
        "function [15:0] tritape_chunk(input [31:0] index);",
        f"  tritape_chunk = index * {_A} + (index >> 16) * {_B} + (index >> 5);",
        "endfunction",
    ]
    return _filled(core, declared, str(size), lambda number: f"tritape_chunk({number})")


def with_image(core: Core) -> Core:
    """The same core, its model's contents those that the C++ main of the fast simulation has when the first cycle is evaluated.

    The main defines `long long tritape_bytes(long long at)`, eight bytes of the image, and `int tritape_size()`.
    """
    declared = [
        'import "DPI-C" function longint tritape_bytes(input longint at);',
        'import "DPI-C" function int tritape_size();',
        "function [15:0] tritape_chunk(input longint index);",
        "  longint value;",
        "  begin",
        "    value = tritape_bytes(index * 2);",
        "    tritape_chunk = value[15:0];",
        "  end",
        "endfunction",
    ]
    return _filled(core, declared, "tritape_size()", lambda number: f"tritape_chunk({number})")


def _filled(core: Core, declared: list[str], size: str, chunk: Callable[[str], str]) -> Core:
    """The core with a process that fills the model's first `size` bytes; `chunk(index)` is an expression for 16 bits.

    Addresses count columns first, then banks, then rows, as the controller maps them.
    """
    if not core.has_model:
        raise TritapeError("core must have a model of the chips, not pins; generate it with model=True")
    chunks = core.port_bits // 16
    columns = chunks * 2 * core.rows * core.columns * core.banks // core.size  # of the chips, in one line of the port
    step = columns if columns == 1 else 4  # of them in one entry of the model
    banks = _BANK.findall(core.verilog)
    assert len(banks) == core.banks, f"model with {len(banks)} banks of {core.banks}"
    value = ", ".join(chunk(f"n * {chunks} + {number}") for number in reversed(range(chunks)))
    position = (
        f"(n * {columns} / {core.columns * core.banks} * {core.columns} + n * {columns} % {core.columns}) / {step}"
    )
    lines = [
        *declared,
        "integer n;",
        "initial",
        f"  for (n = 0; n < ({size} + {2 * chunks - 1}) / {2 * chunks}; n = n + 1)",
        f"    case (n * {columns} / {core.columns} % {core.banks})",
        *(f"      {number}: {bank}[{position}] = {{{value}}};" for number, bank in enumerate(banks)),
        "    endcase",
        "",
    ]
    at = core.verilog.rindex("endmodule")
    return dataclasses.replace(core, verilog=core.verilog[:at] + "\n".join(lines) + core.verilog[at:])
