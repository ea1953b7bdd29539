"""What a board is to tritape: an Amaranth platform, and the configuration that goes onto it."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

from amaranth.lib import wiring

from tritape.base.errors import TritapeError
from tritape.hw.config import Config
from tritape.hw.link.autoboot import script_words
from tritape.model.data import embedded_models
from tritape.rtl_gen.litedram import DRAM
from tritape.rtl_gen.toolchains import Toolchain, toolchain_for
from tritape.rtl_gen.toolchains.toolchain import Capacity

DRAM_KINDS = {"SDR": "SDRAM", "DDR3": "DDR3"}
"""Memory types of LiteDRAM, for people."""
DRAM_CONFIGS = {
    "SDR": Config(groups=4, max_hidden=512, max_intermediate=1536, max_layers=8, max_vocab=4096),
    "DDR3": Config(groups=16, max_hidden=512, max_intermediate=1536, max_layers=8, max_vocab=4096),
}
"""For 16 and 64 bits a cycle: the engine takes twice what the memory gives, so it catches up after each wait."""


def check_names(name: str, model: str) -> None:
    """Raises `TritapeError` for what a user cannot type as the name of a board, and for a model that there is not."""
    if not re.fullmatch(r"[a-z0-9]+([-.][a-z0-9]+)*", name):
        raise TritapeError(
            f"name of a board must be of a-z, 0-9 and single dashes and dots between, not {name!r}; rename it"
        )
    if model not in embedded_models():
        raise TritapeError(f"{name}: model must be one of {', '.join(embedded_models())}, not {model!r}; choose one")


@dataclass(frozen=True)
class TapeFlash:
    """The configuration flash of a board that has its tape there and writes text by itself (`StandaloneAccelerator`)."""

    offset: int = 1 << 20
    """Byte where the script begins, behind the bitstream; the tape follows it."""
    size: int = 1 << 24
    """Bytes of the part."""
    resource: tuple[str, int] = ("spi_flash_4x", 0)
    """Of the platform: `cs`, `clk`, four lines `dq`."""


@dataclass(frozen=True)
class Board:
    """One board with the accelerator that it carries. A board file makes one and a build turns it into a bitstream.

    Raises `TritapeError` naming the field where a value cannot be.
    """

    name: str
    """What the user types: lower case letters, digits, dashes and dots."""
    title: str
    """Maker and model."""
    platform: Callable[[], Any]
    """Makes a fresh Amaranth platform (a class of `amaranth_boards`, or one like it): device, pins, crystal."""
    config: Config
    memory_words: int
    """Words of G bytes for the tape."""
    clock_hz: int
    """Clock of the accelerator; the board's PLL makes exactly this from the crystal."""
    baud: int
    """Rate of the UART."""
    link: str
    """What carries the UART to the host, for people."""
    memory: str = "block RAM"
    """Where the tape is, for people."""
    make_memory: Callable[[int, int], wiring.Component] | None = None
    """Makes a memory with `MemorySignature` from (G, words), for one other than block RAM."""
    dram: DRAM | None = None
    """Memory behind a LiteDRAM controller, in place of block RAM: SDR on the platform's resource `sdram` 0, or DDR3 on `ddr3` 0;
    ECP5 only."""
    flash: TapeFlash | None = None
    """The tape is in the configuration flash, and the board needs no host; in place of block RAM."""
    model: str = "nano"
    """Checkpoint in model/data that is meant for it."""
    uart: tuple[str, int] = ("uart", 0)
    """Resource of the platform with subsignals `rx` and `tx`, seen from the FPGA."""
    leds: tuple[tuple[str, int], ...] = ()
    """Resources of one LED each, or none: the first shows a token that runs, the second a fault."""
    memory_styles: tuple[tuple[str, str], ...] = ()
    """Memories that Yosys keeps out of block RAM, where that is short or too slow: `distributed` or, for a table of constants,
    `logic`. By name, or by module and name, `MODULE/NAME`; both may be patterns."""
    clock: str | None = None
    """Resource of the crystal, if it is not the platform's default."""

    def __post_init__(self) -> None:
        check_names(self.name, self.model)
        for field in ("memory_words", "clock_hz", "baud"):
            value = getattr(self, field)
            if type(value) is not int or value < 1:
                raise TritapeError(f"{self.name}: {field} must be a positive integer, not {value!r}; set it")
        if self.baud * 8 > self.clock_hz:
            raise TritapeError(
                f"{self.name}: baud must be at most an eighth of clock_hz {self.clock_hz}, not {self.baud}; lower it"
            )
        if self.flash is not None:
            if self.make_memory is not None or self.dram is not None:
                raise TritapeError(f"{self.name}: make_memory and dram must be None beside flash; take them away")
            if self.config.batch != 1:
                raise TritapeError(f"{self.name}: batch must be 1 without a host, not {self.config.batch}; lower it")
        if self.dram is not None:
            if self.make_memory is not None:
                raise TritapeError(f"{self.name}: make_memory must be None beside dram; take away one of the two")
            if self.family != "ecp5":
                raise TritapeError(f"{self.name}: dram must be on an ECP5, not {self.family}; choose another memory")

    @cached_property
    def toolchain(self) -> Toolchain:
        """PLL and tools for this device."""
        return toolchain_for(self.platform())

    @property
    def family(self) -> str:
        """`ecp5`, `ice40`, `gowin` or `xilinx`."""
        return self.toolchain.family

    @property
    def device(self) -> str:
        """Part as its maker writes it."""
        platform = self.platform()
        return str(getattr(platform, "part", None) or platform.device)

    @property
    def crystal_hz(self) -> int:
        """Frequency of the crystal. Raises `TritapeError` if the platform's file does not give it."""
        platform = self.platform()
        clock = platform.lookup(self.clock or platform.default_clk).clock
        if clock is None:
            raise TritapeError(
                f"{self.name}: clock of the platform must have a frequency, not none; add Clock(hz) to it"
            )
        return round(clock.frequency)

    @property
    def memory_bytes(self) -> int:
        """Largest tape image."""
        return self.memory_words * self.config.word_bytes

    @property
    def word_cycles(self) -> float:
        """Cycles in which the memory delivers a word, on long reads."""
        if self.flash is not None:
            return 2.0 * self.config.word_bytes
        return 1.0 if self.dram is None else max(1.0, self.config.word_bytes / self.dram.sustained_bytes)

    @property
    def capacity(self) -> Capacity:
        """What the device has. Raises `TritapeError` for a device that is not known."""
        return self.toolchain.capacity(self.platform())

    main = "top.tcl"
    """The file that starts the vendor's tool, in a project for one."""

    @property
    def clocked_dram(self) -> DRAM:
        """The memory with the clocks that the board has. Raises `TritapeError` for a board without one."""
        if self.dram is None:
            raise TritapeError(f"{self.name}: board must have a dram, not none; choose another board")
        return replace(self.dram, clock_hz=self.clock_hz, input_hz=self.crystal_hz)


def in_dram(board: Board, dram: DRAM, size: int, clock_hz: int, **other: Any) -> Board:
    """The same board with its tape in `size` bytes of SDRAM or DDR3, and the model that is meant for such boards.

    `other`: fields that are not those of every board with this kind of memory.
    """
    kind = DRAM_KINDS[dram.memtype]
    config = other.pop("config", DRAM_CONFIGS[dram.memtype])
    changed = {
        "name": f"{board.name}-{kind.lower()}",
        "title": f"{board.title}, tape in {kind}",
        "config": config,
        "memory_words": size // config.word_bytes,
        "make_memory": None,
        "memory_styles": (),
        "clock_hz": clock_hz,
        "memory": kind,
        "dram": dram,
        "model": "base",
    }
    return replace(board, **{**changed, **other})


def in_flash(board: Board, flash: TapeFlash, **other: Any) -> Board:
    """The same board with its tape in its configuration flash, from which it runs without a host; text at 115,200 baud.

    `other`: fields that are not those of every such board.
    """
    room = (flash.size - flash.offset) // board.config.word_bytes - script_words(board.config)
    changed = {
        "name": f"{board.name}-flash",
        "title": f"{board.title}, by itself",
        "memory_words": room,
        "make_memory": None,
        "memory": "flash",
        "flash": flash,
        "baud": 115_200,
    }
    return replace(board, **{**changed, **other})
