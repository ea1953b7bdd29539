"""Amaranth component in, deterministic Verilog text out. Everything that needs Verilog comes here."""

from __future__ import annotations

import re

from amaranth.back import rtlil, verilog
from amaranth.lib import wiring

# Yosys gives every combinational process a signal to wait for, so that it runs at time zero, but nothing ever changes that
# signal: Icarus then leaves constants at X. One non-blocking assignment at time zero makes it do its work.
_TRIGGER = re.compile(r"\\\$auto\$verilog_backend\.cc:\d+:dump_module\$\d+ ")
# A failed assertion only prints in Icarus; this ends the simulation in every simulator.
_ASSERT = re.compile(r"\bassert \((.+)\);")
_TRIGGER_REG = "  reg initial_trigger = 0;\n"

_done: dict[str, str] = {}  # RTLIL text -> Verilog text; Yosys takes a few tenths of a second, elaboration does not


def verilog_text(component: wiring.Component, name: str, *, checks: bool = False) -> str:
    """One self-contained Verilog text whose top module is called `name`.

    Ports are the component's members, flattened with `__` between the parts (`a.payload` becomes `a__payload`), plus
    `clk` and `rst` where it has synchronous logic. The text depends on the component's content only: no source
    locations, paths or dates, so it can be hashed, and equal inputs give equal bytes in every process.
    With `checks`, for a simulator, it has the assertions of `tritape.hw.assertion`.
    """
    platform = "simulation" if checks else None
    key = rtlil.convert(component, name=name, platform=platform, emit_src=False)
    if key not in _done:
        # `verilog.convert` without its second elaboration, which takes seconds for a whole accelerator
        text = verilog._convert_rtlil_text(key, strip_internal_attrs=True)
        text = _ASSERT.sub(r"if (!(\1)) $fatal;", _TRIGGER.sub("initial_trigger", text))
        _done[key] = text.replace(_TRIGGER_REG, _TRIGGER_REG + "  initial initial_trigger <= 1;\n")
    return _done[key]
