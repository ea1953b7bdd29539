"""A board whose fabric hangs on the bus of a processor: no pins, no UART, memory over AXI, and a vendor's tool to build it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from tritape.base.errors import TritapeError
from tritape.hw.config import Config
from tritape.rtl_gen.boards.board import check_names
from tritape.rtl_gen.toolchains.toolchain import Capacity
from tritape.rtl_gen.toolchains.xilinx import Xilinx, part_capacity


@dataclass(frozen=True)
class BusBoard:
    """One board with the `AXIAccelerator` that it carries, and what makes the vendor's project. See `Board` for the others.

    Raises `TritapeError` naming the field where a value cannot be.
    """

    name: str
    title: str
    device: str
    """Part as its maker writes it."""
    config: Config
    memory_words: int
    """Words of E G bytes for the tape."""
    clock_hz: int
    ports: int
    port_bits: int
    """Of each AXI4 port to memory."""
    address_bits: int
    """Of each port, 40 or more; those above 40 are 0."""
    files: Callable[[BusBoard], dict[str, str]]
    """Everything of the project but the Verilog, by name."""
    main: str
    """The file of the project that starts the vendor's tool."""
    link: str
    memory: str
    model: str = "small"
    replicas: int = 1
    """Accelerators of this kind on the board, each with its own ports, memory and host link."""
    memory_styles: tuple[tuple[str, str], ...] = ()
    """Memories that Vivado is to put elsewhere than it would: `ultra` or `distributed`. By name, or by module and name,
    `MODULE/NAME`; both may be patterns; the first that matches counts."""
    details: Mapping[str, Any] = field(default_factory=dict)
    """What `files` needs to know about this board."""

    baud = None
    """There are no wires."""
    dram = None
    """The memory's controller is the vendor's, and started when the host's programs run."""
    family = "xilinx"
    toolchain = Xilinx()

    def __post_init__(self) -> None:
        check_names(self.name, self.model)
        for name in ("memory_words", "clock_hz", "replicas"):
            value = getattr(self, name)
            if type(value) is not int or value < 1:
                raise TritapeError(f"{self.name}: {name} must be a positive integer, not {value!r}; set it")

    @property
    def memory_bytes(self) -> int:
        """Largest tape image."""
        return self.memory_words * self.config.word_bytes

    @property
    def word_cycles(self) -> float:
        """Cycles in which the ports deliver a word, if the memory behind them is no slower."""
        return max(1.0, self.config.word_bytes / (self.ports * self.port_bits // 8))

    @property
    def capacity(self) -> Capacity:
        """What the device has."""
        return part_capacity(self.device)
