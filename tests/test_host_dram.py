"""DDR3 started over the link: a PHY whose lanes read right in known windows only, and the registers in simulation."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from tritape.base.errors import TritapeError
from tritape.cli import device as cli_device
from tritape.host import dram
from tritape.hw.memory.register_window import WINDOW
from tritape.rtl_gen.archive import manifest, write_archive
from tritape.rtl_gen.boards import board

REGISTERS = {"dly_sel": 512, "rdly_dq_rst": 513, "rdly_dq_inc": 514, "rdly_dq_bitslip_rst": 515, "rdly_dq_bitslip": 516}
ABOUT = {
    "clock_hz": 1_000_000,
    "lanes": 2,
    "registers": REGISTERS,
    "script": [[1024, 14, 0], [1024, 12, 50_000], [1026, 1, 200], [1024, 1, 0], [0, 1, 0]],
}


class Phy:
    """A device with DDR3: lane l reads right at bitslip `windows[l][0]` and the delays in `windows[l][1]`, else wrong bytes."""

    def __init__(self, word_bytes: int, windows: list[tuple[int, range]]) -> None:
        self.identity = SimpleNamespace(geometry=SimpleNamespace(word_bytes=word_bytes))
        self.windows = windows
        self.memory: dict[int, bytes] = {}
        self.pokes: list[tuple[int, int]] = []
        self.selected = 0
        self.bitslip, self.delay = [0, 0], [0, 0]
        self.started = False

    def write_memory(self, address: int, data: bytes) -> None:
        size = self.identity.geometry.word_bytes
        if address < WINDOW:
            assert self.started
            for at in range(0, len(data), size):
                self.memory[address + at // size] = data[at : at + size]
            return
        register, value = address - WINDOW, int.from_bytes(data, "little")
        assert len(data) == size
        self.pokes.append((register, value))
        self.started |= (register, value) == (0, 1)
        if register == REGISTERS["dly_sel"]:
            self.selected = value
        for lane in range(2):
            if not self.selected >> lane & 1:
                continue
            if register == REGISTERS["rdly_dq_rst"]:
                self.delay[lane] = 0
            if register == REGISTERS["rdly_dq_inc"]:
                self.delay[lane] = (self.delay[lane] + 1) % dram.DELAYS
            if register == REGISTERS["rdly_dq_bitslip_rst"]:
                self.bitslip[lane] = 0
            if register == REGISTERS["rdly_dq_bitslip"]:
                self.bitslip[lane] = (self.bitslip[lane] + 1) % dram.BITSLIPS

    def read_memory(self, address: int, words: int) -> bytes:
        if address == WINDOW:
            return bytes([self.started]) + bytes(self.identity.geometry.word_bytes - 1)
        assert self.selected == 0  # a selected lane is paused
        data = bytearray(b"".join(self.memory[address + word] for word in range(words)))
        for lane, (bitslip, delays) in enumerate(self.windows):
            if self.bitslip[lane] != bitslip or self.delay[lane] not in delays:
                data[lane::2] = bytes(byte ^ 0x10 for byte in data[lane::2])
        return bytes(data)


@pytest.mark.parametrize("word_bytes", [4, 16, 13])
def test_the_middle_of_each_window(word_bytes: int) -> None:
    phy = Phy(word_bytes, [(1, range(2, 7)), (2, range(6, 8))])
    slept: list[float] = []
    assert not dram.is_started(phy)
    assert dram.start(phy, ABOUT, slept.append) == [(1, 4), (2, 7)]
    assert phy.pokes[: len(ABOUT["script"])] == [tuple(write[:2]) for write in ABOUT["script"]]
    assert slept == [0.0, 0.05, 0.0002, 0.0, 0.0]
    assert (phy.bitslip, phy.delay, phy.selected) == ([1, 2], [4, 7], 0)
    assert dram.is_started(phy)


def test_the_longest_of_two_windows() -> None:
    phy = Phy(8, [(0, range(0, 8)), (3, range(1, 2))])
    assert dram.start(phy, ABOUT, lambda _: None) == [(0, 4), (3, 1)]


def test_a_lane_that_never_reads_right_is_named() -> None:
    phy = Phy(8, [(0, range(2, 5)), (1, range(0))])
    with pytest.raises(
        TritapeError, match=r"^byte lane 1 of the memory must read what was written at some delay, not at"
    ):
        dram.start(phy, ABOUT, lambda _: None)


@pytest.mark.parametrize("with_start", [True, False])
def test_a_command_starts_the_memory_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, with_start: bool) -> None:
    """As the manifest of the board's archive says."""
    found = replace(board("ecpix-5-ddr3"), name="mine")
    files = {"mine.bit": b"bits"}
    more = {"dram": ABOUT} if with_start else {}
    write_archive(tmp_path / "mine.zip", manifest(found, files, "mine.bit", {}, **more), files)
    monkeypatch.setattr(cli_device, "FOLDER", tmp_path)
    monkeypatch.setattr(dram.time, "sleep", lambda _: None)
    phy = Phy(16, [(1, range(2, 7)), (2, range(6, 8))])
    if not with_start:
        with pytest.raises(
            TritapeError, match=r"mine.zip: manifest must have dram, how to start the memory, not lack it"
        ):
            cli_device.start_memory(phy, found)
        return
    cli_device.start_memory(phy, found)
    assert phy.delay == [4, 7]
    count = len(phy.pokes)
    cli_device.start_memory(phy, found)
    assert len(phy.pokes) == count
    cli_device.start_memory(phy, board("ulx3s-25f"))  # has nothing to start


def test_the_registers_of_the_real_controller() -> None:
    """The names that levelling uses are those of LiteDRAM's PHY, and the script ends by opening the port."""
    pytest.importorskip("litedram", reason="pip install 'tritape[litedram]'")
    from tritape.rtl_gen.litedram import litedram_core, start_of

    for name in ("ecpix-5-ddr3", "orangecrab-r0.2-ddr3"):
        about: dict[str, Any] = start_of(board(name).clocked_dram)
        core = litedram_core(board(name).clocked_dram)
        assert set(about["registers"]) == set(REGISTERS)
        assert about["script"][-1] == [core.registers["ddrctrl_init_done"], 1, 0]
        assert core.size == board(name).memory_bytes
