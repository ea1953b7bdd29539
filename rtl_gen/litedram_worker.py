"""Runs LiteDRAM's generator in a process of its own: `python -m tritape.rtl_gen.litedram_worker SPEC.json FOLDER`.

Writes `core.v`, the text of module `litedram_core`, and `core.json` with `registers` (name -> byte address on its Wishbone
port), `init` (what starts the memory: address, bank, command, cycles to wait) and `port_bits`, `address_bits` of its AXI port.
"""

from __future__ import annotations

import copy
import json
import re
import sys
from pathlib import Path
from typing import Any

FLAGS = {
    "DFII_CONTROL_SEL": 0x01, "DFII_CONTROL_CKE": 0x02, "DFII_CONTROL_ODT": 0x04, "DFII_CONTROL_RESET_N": 0x08,
    "DFII_COMMAND_CS": 0x01, "DFII_COMMAND_WE": 0x02, "DFII_COMMAND_CAS": 0x04, "DFII_COMMAND_RAS": 0x08,
}  # fmt: skip
_PADS = re.compile(r"\binput(?=\s+wire\s+\[\d+:0\]\s+(?:sdram_dq|ddram_dq|ddram_dqs_p)\b)")


def _ecp5_settings(data_width: int, clock_hz: float) -> Any:
    """What `ECP5DDRPHY` says of itself, for the model to behave like it: two phases, a burst of eight in two cycles."""
    from litedram import common

    phases = 2
    tck = 1 / (phases * clock_hz)
    cl, cwl = common.get_default_cl("DDR3", tck), common.get_default_cwl("DDR3", tck)
    cl_cycles, cwl_cycles = common.get_sys_latency(phases, cl), common.get_sys_latency(phases, cwl)
    return common.PhySettings(
        phytype="SDRAMPHYModel",
        memtype="DDR3",
        databits=data_width,
        dfi_databits=4 * data_width,
        nphases=phases,
        rdphase=common.get_sys_phase(phases, cl_cycles, cl),
        wrphase=common.get_sys_phase(phases, cwl_cycles, cwl),
        cl=cl,
        cwl=cwl,
        read_latency=cl_cycles + 10,
        write_latency=cwl_cycles,
    )


def generate(spec: dict[str, Any]) -> tuple[str, dict[str, Any]]:
    """Verilog text and description. `spec` is the YAML file of `litedram_gen`, with
    `sim`, `rows` (of a bank) and `refresh_ns` (tRFC); 0 for the chip's own."""
    from litedram import common, gen, modules, phy
    from litedram.init import get_sdram_phy_init_sequence
    from litex.build.lattice import LatticePlatform
    from litex.build.sim import SimPlatform
    from litex.soc.integration import export
    from litex.tools import litex_sim

    sim, rows, refresh_ns = spec.pop("sim"), spec.pop("rows"), spec.pop("refresh_ns")
    chip = getattr(modules, spec["sdram_module"])
    ratio = {"SDR": "1:1", "DDR3": "1:2"}[spec["memtype"]]

    class Chip(chip):  # type: ignore[misc, valid-type]
        nrows = rows or chip.nrows

        def __init__(self, clk_freq: float, rate: str) -> None:
            super().__init__(clk_freq, ratio)

    if refresh_ns:
        timings = copy.copy(chip.speedgrade_timings["default"])
        timings.tRFC = (None, refresh_ns)
        Chip.speedgrade_timings = {"default": timings}
    Chip.__name__ = chip.__name__
    spec |= {"sdram_module": Chip, "sdram_phy": getattr(phy, spec["sdram_phy"]), "cpu": None}
    if sim and spec["memtype"] == "DDR3":
        litex_sim.get_sdram_phy_settings = lambda memtype, data_width, clk_freq: _ecp5_settings(data_width, clk_freq)
    platform = SimPlatform("", io=[]) if sim else LatticePlatform(spec["device"], io=[], toolchain="trellis")
    soc = gen.LiteDRAMCore(platform, spec, integrated_rom_size=0)
    soc.finalize()
    text = str(platform.get_verilog(soc, name="litedram_core", regular_comb=False))
    text = "\n".join(line.rstrip() for line in text.splitlines() if not line.startswith("//"))  # without dates
    text = _PADS.sub("inout", text)  # the generator declares them as inputs
    registers = json.loads(export.get_csr_json(soc.csr_regions, soc.constants, soc.mem_regions))["csr_registers"]
    controller = soc.sdram.controller.settings
    sequence, _ = get_sdram_phy_init_sequence(controller.phy, controller.timing)
    port = soc.sdram.crossbar.masters[-1]
    description = {
        "registers": {name: register["addr"] for name, register in registers.items()},
        "init": [
            {
                "address": address,
                "bank": bank,
                "control": command.startswith("DFII_CONTROL"),
                "command": sum(FLAGS[flag] for flag in command.split("|")),
                "cycles": delay,
            }
            for _, address, bank, command, delay in sequence
        ],
        "port_bits": port.data_width,
        "address_bits": port.address_width + common.log2_int(port.data_width // 8),
        "banks": chip.nbanks,
        "columns": chip.ncols,
        "rows": Chip.nrows,
    }
    return text + "\n", description


def main() -> None:
    """Generate the core that the JSON file argv[1] describes into the folder argv[2]."""
    spec, folder = json.loads(Path(sys.argv[1]).read_text()), Path(sys.argv[2])
    text, description = generate(spec)
    (folder / "core.v").write_text(text)
    (folder / "core.json").write_text(json.dumps(description, indent=1))


if __name__ == "__main__":
    main()
