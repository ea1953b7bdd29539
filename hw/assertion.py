"""What a unit requires of its neighbours, checked in every simulation and absent from every bitstream."""

from __future__ import annotations

from amaranth.hdl import Assert, Module, ValueLike


def check(m: Module, platform: object, condition: ValueLike, text: str) -> None:
    """End the simulation with `text` at a clock edge at which `condition` is 0; call it inside `m.If` for an implication.

    A unit's `elaborate` hands on its `platform`, a text where a simulator or a proof is built (`tritape.base.verilog_text`,
    `rtlil.convert(platform="formal")`). For anything else (Verilog for a synthesiser, a build for a board) this does nothing.
    `text` is the sentence of the docstring that states the precondition.
    """
    if isinstance(platform, str):
        m.d.sync += Assert(condition, text)
