"""A LiteX SoC with the core of `tritape verilog`, in LiteX's own simulation: its processor has text written and prints it.

    tritape pack nano --groups 4 --rows 512 -o nano.tape
    tritape verilog -o core --name core0 --groups 4 --max-hidden 64 --max-intermediate 128 --max-layers 4 \\
        --max-vocab 256 --max-rows 512
    python docs/examples/litex_soc.py core/core0_litex.py nano.tape "It is a truth" --tokens 24

The tape lies in block RAM from the start. `litex_firmware.c` runs on a PicoRV32: it speaks the host protocol over the
registers of `Tritape.add_registers` and prints each token's text on LiteX's simulated console. docs/integrate.md says what it
needs.
"""

from __future__ import annotations

import argparse
import importlib.util
import subprocess
import sys
from pathlib import Path

from litex.build.generic_platform import Pins, Subsignal
from litex.build.io import CRG
from litex.build.sim import SimPlatform
from litex.build.sim.config import SimConfig
from litex.soc.integration.common import get_mem_data
from litex.soc.integration.export import get_csr_header, get_soc_header
from litex.soc.integration.soc_core import SoCCore
from litex.soc.interconnect.csr import CSRStorage
from migen import Finish, If

from tritape.model.pieces import token_pieces
from tritape.model.tape.container import read_tape
from tritape.model.tokenizer import tape_tokenizer

FIRMWARE = Path(__file__).with_name("litex_firmware.c")
CLOCK_HZ = int(1e6)
SERIAL = [
    Subsignal(f"{way}_{name}", Pins(bits))
    for way in ("source", "sink")
    for name, bits in (("valid", 1), ("ready", 1), ("data", 8))
]
PADS = [("sys_clk", 0, Pins(1)), ("serial", 0, *SERIAL)]


class SoC(SoCCore):
    """Processor, console, and the core with a tape in block RAM."""

    def __init__(self, litex_module: Path, image: bytes) -> None:
        platform = SimPlatform("SIM", PADS)
        self.crg = CRG(platform.request("sys_clk"))
        super().__init__(
            platform,
            CLOCK_HZ,
            cpu_type="picorv32",
            integrated_rom_size=0x10000,
            integrated_sram_size=0x1000,
            uart_name="sim",
            with_timer=False,
            ident="",
        )
        spec = importlib.util.spec_from_file_location("core", litex_module)
        assert spec is not None
        assert spec.loader is not None
        core = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(core)
        self.tritape = core.Tritape(platform)
        self.tritape.add_registers()
        self.tritape_memory = core.BlockMemory(self.tritape, len(image) * 8 // self.tritape.word_bits, image)
        self.done = CSRStorage(description="the simulation ends")
        self.sync += If(self.done.storage, Finish())


def texts(pieces: list[bytes], prompt: list[int], tokens: int) -> str:
    """What the firmware is told, in C: the prompt's tokens, how many follow, and every token's text."""
    table, starts = b"".join(pieces), [0]
    for piece in pieces:
        starts.append(starts[-1] + len(piece))
    lists = {"uint16_t prompt": prompt, "uint32_t piece_start": starts, "uint8_t piece_bytes": list(table)}
    made = [f"static const {name}[] = {{{', '.join(map(str, values))}}};" for name, values in lists.items()]
    return "\n".join(["#include <stdint.h>", f"#define TOKENS {tokens}", f"#define PROMPT {len(prompt)}", *made, ""])


LINK = """SECTIONS {{
  . = {rom:#x};
  .text : {{ *(.start) *(.text*) *(.rodata*) *(.srodata*) }}
  . = {ram:#x};
  .bss : {{ *(.bss*) *(.sbss*) }}
  .data : {{ *(.data*) *(.sdata*) }}
  ASSERT(SIZEOF(.data) == 0, "the firmware must have no initialised variables")
  _stack = {end:#x};
}}
"""


def compile_firmware(soc: SoC, folder: Path) -> None:
    """`litex_firmware.c` into the SoC's ROM."""
    ram, rom = soc.bus.regions["sram"], soc.bus.regions["rom"]
    (folder / "link.ld").write_text(LINK.format(rom=rom.origin, ram=ram.origin, end=ram.origin + ram.size))
    (folder / "csr.h").write_text(
        get_csr_header(soc.csr_regions, soc.constants, soc.bus.regions["csr"].origin, with_access_functions=False)
    )
    (folder / "generated").mkdir(exist_ok=True)
    (folder / "generated/soc.h").write_text(get_soc_header(soc.constants))
    tool = "riscv64-unknown-elf-"
    options = "-Os -ffreestanding -fno-tree-loop-distribute-patterns -nostdlib -Wall -Wl,--build-id=none"
    command = [f"{tool}gcc", *soc.cpu.gcc_flags.split(), *options.split(), f"-I{folder}", "-T", folder / "link.ld"]
    subprocess.run([*command, FIRMWARE, "-o", folder / "firmware.elf"], check=True)
    subprocess.run(
        [f"{tool}objcopy", "-O", "binary", "-j", ".text", folder / "firmware.elf", folder / "firmware.bin"], check=True
    )
    soc.init_rom("rom", get_mem_data(str(folder / "firmware.bin"), endianness="little"))


def main() -> None:
    """Build and run; the firmware ends the simulation."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("module", type=Path, help="NAME_litex.py, beside NAME.v and NAME.json")
    parser.add_argument("tape", type=Path, help="packed for the core's groups and rows")
    parser.add_argument("prompt")
    parser.add_argument("--tokens", type=int, default=24)
    parser.add_argument("--output", type=Path, default=Path("build/litex"))
    given = parser.parse_args()
    tape = read_tape(given.tape)
    codec = tape_tokenizer(tape, str(given.tape))
    prompt = list(codec.encode(given.prompt))
    if not 1 <= len(prompt) <= 100:
        parser.error(f"prompt must have 1 to 100 tokens, not {len(prompt)}; change it")
    folder = given.output.resolve()
    folder.mkdir(parents=True, exist_ok=True)
    pieces = token_pieces(codec, tape.metadata["config"]["vocab_size"])
    (folder / "texts.h").write_text(texts(pieces, prompt, given.tokens))
    soc = SoC(given.module.resolve(), bytes(tape.image))
    soc.finalize()
    compile_firmware(soc, folder)
    config = SimConfig()
    config.add_clocker("sys_clk", freq_hz=CLOCK_HZ)
    config.add_module("serial2console", "serial")
    soc.build(
        build_dir=str(folder / "gateware"),
        sim_config=config,
        interactive=sys.stdin.isatty(),
        opt_level="O1",
        verbose=False,
    )


if __name__ == "__main__":
    main()
