"""Which memory the accelerator of the fast simulation has, and the hardware between the two."""

from __future__ import annotations

from dataclasses import dataclass

from amaranth.hdl import Cat, Module
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from tritape.base.errors import TritapeError
from tritape.hw.accelerator import Accelerator
from tritape.hw.config import Config
from tritape.hw.memory.attach import add_memory
from tritape.hw.memory.axi import AXIMemory
from tritape.hw.memory.axi_bus import ADDRESS_BITS, BOUNDARY, ID_BITS, MAX_BEATS
from tritape.hw.memory.axi_reader import AXIReader
from tritape.hw.memory.gearbox import Gearbox
from tritape.hw.memory.litedram import LiteDRAMMemory
from tritape.hw.memory.planner import Planner
from tritape.hw.memory.qspi import QSPIMemory
from tritape.hw.stream.forward import forward
from tritape.rtl_gen.litedram import DRAMS, Core, litedram_core

BOARDS = {"litedram-sdr": "ulx3s", "litedram-ddr3": "ecpix5"}
KINDS = ("ideal", "axi", *BOARDS, "qspi")
CODES = {"ideal": 0, "axi": 1, "litedram-sdr": 2, "litedram-ddr3": 2, "qspi": 3}
"""Macro `MEMORY` of the C++ main."""
PORT_BYTES = 1 << 8  # of all AXI ports together: what a simulation was tried with
_QSPI_BYTES, _QSPI_SUSTAINED = 0.5, 0.9975  # a cycle; and the part of them that comes on long reads
_HURRY = 1000  # divides the waiting times of a DRAM's start
_FIFO_LINES = 512  # of `AXIReader`
_DRAM_LATENCY = 20


@dataclass(frozen=True)
class Memory:
    """A memory of the fast simulation.

    `ideal`: a word a cycle, no latency, but none in a share `stall` of all cycles, at random. `axi`: `AXIMemory` with a model in
    C++ behind each port: bursts are answered in order, a beat a cycle at most, the first one `latency` + 0..`jitter` cycles after
    its address; an address waits in a quarter of all cycles, at random; all ports together deliver `limit` bytes a cycle at most
    (0: what the ports carry). `litedram-*`: LiteDRAM's controller in RTL with LiteDRAM's model of the chips, refresh included.
    `qspi`: `QSPIMemory` with a model of the flash in C++.

    Raises `TritapeError` for an unknown kind and numbers out of range.
    """

    kind: str = "ideal"
    ports: int = 1
    port_bits: int = 128
    latency: int = 80
    jitter: int = 31
    limit: float = 0.0
    stall: float = 0.0

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise TritapeError(f"memory must be one of {', '.join(KINDS)}, not {self.kind!r}; choose one of them")
        if self.ports < 1 or self.ports * self.port_bits // 8 > PORT_BYTES:
            raise TritapeError(
                f"ports must carry at most {PORT_BYTES} bytes a cycle, not {self.ports!r} of {self.port_bits!r} bits; take fewer"
            )
        for name in ("latency", "jitter"):
            if not 0 <= getattr(self, name) <= 10_000:
                raise TritapeError(f"{name} must be 0..10000 cycles, not {getattr(self, name)!r}; choose another")
        if self.limit < 0:
            raise TritapeError(f"bandwidth must be positive, not {self.limit!r}; leave it out for what the ports carry")
        if not 0 <= self.stall < 1:
            raise TritapeError(
                f"stall must be from 0 to less than 1, not {self.stall!r}; choose another share of the cycles"
            )
        if self.stall and self.kind != "ideal":
            raise TritapeError(f"stall must be 0 for memory {self.kind}, not {self.stall!r}; only ideal has one")

    def peak(self, word_bytes: int) -> float:
        """Bytes a cycle that the memory delivers at most: AXI ports and limit, pins of a DRAM or flash, else a word."""
        if self.kind == "axi":
            carried = self.ports * self.port_bits / 8
            return min(carried, self.limit or carried)
        if self.kind == "qspi":
            return _QSPI_BYTES
        return float(DRAMS[BOARDS[self.kind]].peak_bytes) if self.kind in BOARDS else float(word_bytes)

    def sustained(self, word_bytes: int) -> float:
        """Bytes a cycle on long reads (`python -m tritape.sim.memory.measure`), for the cycle model."""
        if self.kind == "qspi":
            return _QSPI_BYTES * _QSPI_SUSTAINED
        return DRAMS[BOARDS[self.kind]].sustained_bytes if self.kind in BOARDS else self.peak(word_bytes)

    def line(self, word_bytes: int) -> int:
        """Bytes of a line of the backend: what its gearbox takes in a cycle; a word where there are no lines."""
        if self.kind == "axi":
            return self.ports * self.port_bits // 8
        if self.kind in BOARDS:
            dram = DRAMS[BOARDS[self.kind]]
            return dram.peak_bytes * (2 if dram.memtype == "DDR3" else 1)  # which comes in two cycles
        return word_bytes

    def ahead(self, word_bytes: int) -> int:
        """Bytes that the backend has read ahead, and those that come before it must wait again, once the engine goes on."""
        if self.kind == "axi":
            # A full FIFO asks for no burst until it has room for one, and for that as long as the memory takes.
            burst = min(MAX_BEATS, BOUNDARY * 8 // self.port_bits)
            idle = burst + self.latency + self.jitter / 2
            return max(0, _FIFO_LINES * self.line(word_bytes) - round(idle * self.sustained(word_bytes)))
        if self.kind in BOARDS:
            return _FIFO_LINES * self.line(word_bytes)
        return word_bytes if self.kind == "qspi" else 0

    def first_word(self, word_bytes: int) -> float:
        """Cycles from a request to its first word, about, for the cycle model."""
        if self.kind == "ideal":
            return 0.0
        if self.kind == "qspi":
            return QSPIMemory.LATENCY + 2 * word_bytes
        gearbox = Gearbox.latency(self.line(word_bytes), word_bytes)
        backend = Planner.LATENCY + AXIReader.LATENCY + AXIReader.BUFFER_LATENCY + gearbox
        return backend + (self.latency + self.jitter / 2 if self.kind == "axi" else _DRAM_LATENCY)

    def core(self, image_bytes: int) -> Core:
        """LiteDRAM's controller with a model that holds so many bytes."""
        dram = DRAMS[BOARDS[self.kind]]
        rows = 2048
        while (core := litedram_core(dram, model=True, rows=rows)).size < image_bytes:
            rows *= 2
        return core


IDEAL = Memory()


class AcceleratorWithMemory(wiring.Component):
    """An accelerator and its memory backend; ports of a model of what lies outside, P = ports, W = port_bits.

    Ports: those of the accelerator but `memory`. For `axi` also ar_valid, ar_ready, r_valid, r_last u P, ar_addr u 40 P,
    ar_len u 8 P, ar_id, r_id u 4 P, r_data u W P, port 0 in the low bits; reads only. For `qspi`: clock, select, io_o, io_i of
    `QSPIMemory`.
    `verilog`: text of modules to be put beside it.
    """

    def __init__(self, config: Config, memory: Memory, core: Core | None = None) -> None:
        self._accelerator = Accelerator(config, memory_errors=memory.kind != "qspi")
        self._memory: AXIMemory | LiteDRAMMemory | QSPIMemory
        self._outer = [name for name in self._accelerator.signature.members if not name.startswith("memory")]
        pins: dict[str, wiring.Member] = {}
        self.verilog = ""
        if memory.kind == "axi":
            self._memory = AXIMemory(config.word_bytes, memory.ports, memory.port_bits)
            count = memory.ports
            pins = {
                "ar_valid": Out(count),
                "ar_ready": In(count),
                "ar_addr": Out(ADDRESS_BITS * count),
                "ar_len": Out(8 * count),
                "ar_id": Out(ID_BITS * count),
                "r_id": In(ID_BITS * count),
                "r_valid": In(count),
                "r_last": In(count),
                "r_data": In(memory.port_bits * count),
            }
        elif memory.kind == "qspi":
            self._memory = QSPIMemory(config.word_bytes)
            pins = {"clock": Out(1), "select": Out(1), "io_o": Out(4), "io_i": In(4)}
        else:
            assert core is not None, "memory of this kind has a controller"
            self._memory = LiteDRAMMemory(config.word_bytes, core, hurry=_HURRY)
            self.verilog = core.verilog
        super().__init__({**{name: self._accelerator.signature.members[name] for name in self._outer}, **pins})

    def elaborate(self, platform: object) -> Module:
        m = Module()
        m.submodules.accelerator = inner = self._accelerator
        memory = self._memory
        add_memory(m, memory, inner.memory, inner.restart)
        forward(m, self, inner, self._outer)
        if not isinstance(memory, QSPIMemory):
            m.d.comb += inner.memory_errors.eq(memory.errors)
        if isinstance(memory, AXIMemory):
            axis = list(memory.axi)
            m.d.comb += [
                self.ar_valid.eq(Cat(axi.arvalid for axi in axis)),
                self.ar_addr.eq(Cat(axi.araddr for axi in axis)),
                self.ar_len.eq(Cat(axi.arlen for axi in axis)),
                self.ar_id.eq(Cat(axi.arid for axi in axis)),
                Cat(axi.rid for axi in axis).eq(self.r_id),
                Cat(axi.arready for axi in axis).eq(self.ar_ready),
                Cat(axi.rvalid for axi in axis).eq(self.r_valid),
                Cat(axi.rlast for axi in axis).eq(self.r_last),
                Cat(axi.rdata for axi in axis).eq(self.r_data),
            ]
        elif isinstance(memory, QSPIMemory):
            m.d.comb += [getattr(self, name).eq(getattr(memory, name)) for name in ("clock", "select", "io_o")]
            m.d.comb += memory.io_i.eq(self.io_i)
        return m
