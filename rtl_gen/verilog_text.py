"""Amaranth component in, deterministic Verilog text out. Everything that needs Verilog comes here."""

from __future__ import annotations

from amaranth.back import rtlil, verilog
from amaranth.lib import wiring

_done: dict[str, str] = {}  # RTLIL text -> Verilog text; Yosys takes a few tenths of a second, elaboration does not


def verilog_text(component: wiring.Component, name: str) -> str:
    """One self-contained Verilog text whose top module is called `name`.

    Ports are the component's members, flattened with `__` between the parts (`a.payload` becomes `a__payload`), plus
    `clk` and `rst` where it has synchronous logic. The text depends on the component's content only: no source
    locations, paths or dates, so it can be hashed, and equal inputs give equal bytes in every process.
    """
    key = rtlil.convert(component, name=name, emit_src=False)
    if key not in _done:
        _done[key] = verilog.convert(component, name=name, emit_src=False, strip_internal_attrs=True)
    return _done[key]
