"""DRAM controllers written by LiteDRAM's generator, which comes with the extra `tritape[litedram]`."""

from __future__ import annotations

import importlib.metadata
import json
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tritape.base.cache import cached, digest
from tritape.base.errors import TritapeError
from tritape.base.extras import missing

SUSTAINED = {"SDR": 0.968, "DDR3": 0.931}
"""Of the pins' bytes, on long reads with refresh (simulated: `python -m tritape.sim.memory.measure sdr`, `ddr3`)."""


@dataclass(frozen=True)
class DRAM:
    """The memory of a board, as LiteDRAM's generator wants to know it."""

    memtype: str
    """`SDR` or `DDR3`."""
    module: str
    """Class in `litedram.modules` with the chip's geometry and timing."""
    lanes: int
    """Data lines / 8."""
    clock_hz: int
    """Of the controller, and so of the accelerator."""
    input_hz: int
    """Of the board's oscillator, which feeds the core's PLL."""
    phy: str
    device: str
    refresh_ns: int = 0
    """tRFC of the chip's data sheet where LiteDRAM's own, a number of clocks at full speed, is too long at a slow clock."""

    @property
    def peak_bytes(self) -> int:
        """Bytes that the pins carry in a cycle of the controller."""
        return self.lanes * {"SDR": 1, "DDR3": 4}[self.memtype]  # DDR3: two clocks of two edges

    @property
    def sustained_bytes(self) -> float:
        """Of them, those that come on long reads."""
        return self.peak_bytes * SUSTAINED[self.memtype]


DRAMS = {
    "ulx3s": DRAM("SDR", "MT48LC16M16", 2, 100_000_000, 25_000_000, "GENSDRPHY", "LFE5U-85F-6BG381C"),
    "icepi-zero": DRAM("SDR", "W9825G6KH6", 2, 60_000_000, 50_000_000, "GENSDRPHY", "LFE5U-25F-6BG256C"),
    "icesugar-pro": DRAM("SDR", "IS42S16160", 2, 60_000_000, 25_000_000, "GENSDRPHY", "LFE5U-25F-6BG256C"),
    "orangecrab": DRAM("DDR3", "MT41K64M16", 2, 72_000_000, 48_000_000, "ECP5DDRPHY", "LFE5U-25F-8MG285C", 110),
    "ecpix5": DRAM("DDR3", "MT41K256M16", 2, 75_000_000, 100_000_000, "ECP5DDRPHY", "LFE5UM5G-85F-8BG554I", 260),
}
"""The memories of boards. The clock of DDR3 pins is twice the controller's."""


@dataclass(frozen=True)
class Core:
    """A generated controller: module `litedram_core` with an AXI4 port of the memory's own width and a Wishbone port."""

    verilog: str
    port_bits: int
    address_bits: int
    banks: int
    rows: int
    columns: int
    script: tuple[tuple[int, int, int], ...]
    """What starts the memory: (word address on the Wishbone port, value, cycles to wait behind it)."""
    peak_bytes: int
    has_model: bool
    """The core contains a model of the chips, for simulation, and no pins."""
    levelled: bool
    """The moment of reading must be found on each board (DDR3)."""
    registers: dict[str, int]
    """Name to word address on the Wishbone port."""

    @property
    def size(self) -> int:
        """Bytes of the memory."""
        return 1 << self.address_bits


def generator_versions() -> list[str]:
    """Of the packages that write a controller. Raises `TritapeError` if they are not installed."""
    try:
        return [importlib.metadata.version(name) for name in ("litedram", "litex", "migen")]
    except importlib.metadata.PackageNotFoundError:
        raise missing("litedram", "litedram") from None


def litedram_core(dram: DRAM, *, model: bool = False, rows: int = 0) -> Core:
    """Generate the controller of a memory; kept in the cache.

    `model`: with LiteDRAM's model of the chips instead of pins; `rows` then makes them smaller. `TritapeError` if LiteDRAM is
    not installed or refuses.
    """
    versions = generator_versions()
    if rows and not model:
        raise TritapeError(f"rows must be 0 for a controller with pins, not {rows!r}; chips have the rows they have")
    spec = {
        "memtype": dram.memtype,
        "sdram_module": dram.module,
        "sdram_module_nb": dram.lanes,
        "sdram_rank_nb": 1,
        "sdram_phy": dram.phy,
        "device": dram.device,
        "speedgrade": -1,
        "input_clk_freq": float(dram.input_hz),
        "sys_clk_freq": float(dram.clock_hz),
        "init_clk_freq": 25e6,
        "user_ports": {"axi": {"type": "axi", "id_width": 1}},
        "refresh_ns": dram.refresh_ns,
        "sim": model,
        "rows": rows,
    }
    if dram.memtype == "DDR3":
        spec |= {"rtt_nom": "60ohm", "rtt_wr": "disabled", "ron": "34ohm"}
    worker = Path(__file__).with_name("litedram_worker.py")
    key = digest(json.dumps(spec, sort_keys=True), *versions, worker.read_bytes())

    def build(folder: Path) -> None:
        (folder / "spec.json").write_text(json.dumps(spec))
        command = [sys.executable, "-P", str(worker), "spec.json", "."]  # -P: this folder has a litedram.py too
        run = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
        if run.returncode:
            tail = "\n".join((run.stdout + run.stderr).splitlines()[-15:])
            raise TritapeError(f"LiteDRAM must write the controller, not fail; its output ends with:\n{tail}")

    folder = cached("litedram", key, build)
    description = json.loads((folder / "core.json").read_text())
    return Core(
        verilog=(folder / "core.v").read_text(),
        port_bits=description["port_bits"],
        address_bits=description["address_bits"],
        banks=description["banks"],
        rows=description["rows"],
        columns=description["columns"],
        script=_script(description),
        peak_bytes=dram.peak_bytes,
        has_model=model,
        levelled=dram.memtype == "DDR3",
        registers=_words(description),
    )


_CKE_ODT_RESET_N, _SELECT_CONTROLLER = 0x0E, 0x01


def start_of(dram: DRAM) -> dict[str, Any]:
    """What the host needs to start a DDR3, JSON-ready, for the manifest: `clock_hz`, byte lanes, `registers`, `script`."""
    core = litedram_core(dram)
    return {
        "clock_hz": dram.clock_hz,
        "lanes": dram.lanes,
        "registers": {name: core.registers[f"ddrphy_{name}"] for name in LEVELLING},
        "script": [list(write) for write in core.script],
    }


LEVELLING = ("dly_sel", "rdly_dq_rst", "rdly_dq_inc", "rdly_dq_bitslip_rst", "rdly_dq_bitslip")
"""Registers of the PHY of an ECP5 that place the moment of reading of the byte lanes in `dly_sel`."""


def _words(description: dict) -> dict[str, int]:
    return {name: address // 4 for name, address in description["registers"].items()}


def _script(description: dict) -> tuple[tuple[int, int, int], ...]:
    """Writes to the DFI injector that bring the memory up, then hand it to the controller and open the AXI port."""
    registers = _words(description)
    script = [(registers["sdram_dfii_control"], _CKE_ODT_RESET_N, 0)]
    for step in description["init"]:
        script.append((registers["sdram_dfii_pi0_address"], step["address"], 0))
        script.append((registers["sdram_dfii_pi0_baddress"], step["bank"], 0))
        if step["control"]:
            script.append((registers["sdram_dfii_control"], step["command"], step["cycles"]))
        else:
            script.append((registers["sdram_dfii_pi0_command"], step["command"], 0))
            script.append((registers["sdram_dfii_pi0_command_issue"], 1, step["cycles"]))
    script.append((registers["sdram_dfii_control"], _SELECT_CONTROLLER, 0))
    script.append((registers["ddrctrl_init_done"], 1, 0))
    return tuple(script)
