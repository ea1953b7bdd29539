"""What the accelerator counts for the host, and the registers that count."""

from __future__ import annotations

from collections.abc import Mapping

from amaranth.hdl import Module, Signal, Value

COUNTERS = (
    "running",  # cycles from a token's start to its result
    "tokens",  # results
    "streaming",  # cycles in which the engine took a row slice
    "stall_memory",  # engine ready, no weight word
    "stall_fill",  # engine waits for tables
    "stall_dependency",  # engine waits for activations
    "stall_output",  # engine waits for the units behind it
    "saturated_rows",
    "saturated_dequantiser",
    "saturated_mlgru",
    "saturated_mixer",
    "saturated_residual",
    "crc_errors",
    "first_bad_section",
    "fault_code",
)
"""Counters of 32 bits in the order in which COUNTERS sends them. Cycle counters count only while a token runs."""

MEMORY_ERRORS = len(COUNTERS)
"""Place of one more: errors that the memory tells of, 0 where it cannot."""

SERIAL_COUNTERS = ("running",)
"""Those that a serial configuration counts, besides the registers of the sequencer; the others read 0."""


def count(
    m: Module, events: Mapping[str, Value], registers: Mapping[str, Value], index: Value, counter: Signal
) -> dict[str, Value]:
    """Count `events` (name -> how many happen in this cycle) and drive `counter` with number `index` of `COUNTERS`.

    Used by the token loops. `registers`: values that count themselves. An event is registered before it is counted, so that
    counting costs no path; a name in neither reads 0. Returns: the value of each.
    """
    values = dict(registers)
    for name, happened in events.items():
        event = Signal.like(happened, name=f"count_{name}")
        values[name] = value = Signal(32, name=name)
        m.d.sync += event.eq(happened)
        with m.If(event.any()):
            m.d.sync += value.eq(value + event)
    with m.Switch(index):
        for place, name in enumerate(COUNTERS):
            if name in values:
                with m.Case(place):
                    m.d.comb += counter.eq(values[name])
    return values
