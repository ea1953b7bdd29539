"""Starts the DDR3 of a board over the host link, and finds the moment at which each byte lane must be read."""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Mapping
from typing import Any, Protocol

from tritape.base.errors import TritapeError
from tritape.host.protocol import Identity
from tritape.hw.memory.register_window import WINDOW

DELAYS = 8
"""Settings of a lane's delay, an eighth of a bit each."""
BITSLIPS = 4
"""Bits by which a lane's deserialiser can be early."""
PATTERN_BYTES = 192


class MemoryDevice(Protocol):
    """What is needed of `tritape.host.device.Device`."""

    identity: Identity

    def write_memory(self, address: int, data: bytes) -> None:
        """Write words."""

    def read_memory(self, address: int, words: int) -> bytes:
        """Read words."""


def is_started(device: MemoryDevice) -> bool:
    """Whether the memory was started since the bitstream was loaded. Only for a board with DDR3: others have no such register."""
    return bool(device.read_memory(WINDOW, 1)[0] & 1)


def start(
    device: MemoryDevice, about: Mapping[str, Any], sleep: Callable[[float], None] = time.sleep
) -> list[tuple[int, int]]:
    """Bring the memory up and level its lanes; returns (bitslip, delay) of each lane. What it held is lost.

    about: `dram` of the archive's manifest (`tritape.rtl_gen.litedram.start_of`): `clock_hz`, `lanes`, `registers`, `script`.
    The lanes are read at every bitslip and delay; the middle of the longest run of delays that reads right is taken. Nothing
    is to be found for writes: the PHY of an ECP5 places them itself.
    Source: LiteDRAM's ECP5DDRPHY; Lattice FPGA-TN-02035 (DQSBUFM's READCLKSEL). Raises `TritapeError` naming a lane that
    never reads right.
    """
    for register, value, cycles in about["script"]:
        _poke(device, register, value)
        sleep(cycles / about["clock_hz"])
    size, lanes, registers = device.identity.geometry.word_bytes, about["lanes"], about["registers"]
    words = PATTERN_BYTES // size
    pattern = random.Random(lanes).randbytes(words * size)
    device.write_memory(0, pattern)
    everything = (1 << lanes) - 1
    right: list[list[list[bool]]] = [[] for _ in range(lanes)]  # of each lane, for each bitslip, for each delay
    for bitslip in range(BITSLIPS):
        for delay in range(DELAYS):
            _place(device, registers, everything, bitslip, delay)
            read = device.read_memory(0, words)
            for lane in range(lanes):
                if delay == 0:
                    right[lane].append([])
                right[lane][bitslip].append(read[lane::lanes] == pattern[lane::lanes])
    chosen = []
    for lane in range(lanes):
        runs = [(*_longest(marks), bitslip) for bitslip, marks in enumerate(right[lane])]
        length, first, bitslip = max(runs, key=lambda run: run[0])
        if length == 0:
            raise TritapeError(
                f"byte lane {lane} of the memory must read what was written at some delay, not at none; "
                "load the bitstream again, with power off between"
            )
        chosen.append((bitslip, first + length // 2))
        _place(device, registers, 1 << lane, *chosen[-1])
    return chosen


def _poke(device: MemoryDevice, register: int, value: int) -> None:
    device.write_memory(WINDOW + register, value.to_bytes(device.identity.geometry.word_bytes, "little"))


def _place(device: MemoryDevice, registers: Mapping[str, int], lanes: int, bitslip: int, delay: int) -> None:
    """Bitslip and delay of the lanes in a mask."""
    _poke(device, registers["dly_sel"], lanes)
    for reset, step, count in (("bitslip_rst", "bitslip", bitslip), ("rst", "inc", delay)):
        _poke(device, registers[f"rdly_dq_{reset}"], 1)
        for _ in range(count):
            _poke(device, registers[f"rdly_dq_{step}"], 1)
    _poke(device, registers["dly_sel"], 0)


def _longest(marks: list[bool]) -> tuple[int, int]:
    """Length and first place of the longest run of what is true."""
    best = run = (0, 0)
    for place, mark in enumerate(marks):
        run = (run[0] + 1, run[1]) if mark else (0, place + 1)
        best = max(best, run, key=lambda one: one[0])
    return best
