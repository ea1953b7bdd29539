"""Registers and UIO as a transport, on a recorded device behind registers and on files in the place of sysfs and /dev."""

from __future__ import annotations

import random
import re
from collections import deque
from pathlib import Path

import pytest
from small_board import golden, small_model
from test_host_replay import RECORDED, session

from tritape.base.errors import TritapeError
from tritape.host.device import Device
from tritape.host.link import Link
from tritape.host.transport import PlacingTransport
from tritape.host.transport.port import open_port
from tritape.host.transport.registers import RegisterTransport, stripes
from tritape.host.transport.replay import ReplayTransport
from tritape.host.transport.serial import SerialTransport
from tritape.host.transport.uio import UIOTransport
from tritape.hw.link.axi_lite import MAGIC, AXILiteLink, Register

PORTS, LINE_BYTES, PAGES = 4, 16, 3
START = 0x6_8000_0000


class FakeLink:
    """`Registers` as `AXILiteLink` has them, with a device behind; its FIFOs are slow when `rng` says so."""

    def __init__(self, device: ReplayTransport | None = None, ident: int = MAGIC) -> None:
        self.device, self.ident, self.rng = device, ident, random.Random(5)
        self.waiting: deque[int] = deque()
        self.room = AXILiteLink.DEPTH - 1
        self.base: dict[int, int] = {}
        self.writes: list[int] = []

    def read(self, address: int) -> int:
        if address == Register.STATUS:
            if self.device is not None and not self.waiting:
                self.waiting += self.device.read(0)
            return (
                min(len(self.waiting), self.rng.choice((3, 4, 500)))
                | min(self.room, self.rng.choice((0, 6, 511))) << 16
            )
        if address in (Register.BYTE, Register.WORD):
            count = 4 if address == Register.WORD else 1
            return int.from_bytes(bytes(self.waiting.popleft() for _ in range(count)), "little")
        constants = {Register.ID: self.ident, Register.SHAPE: PORTS | LINE_BYTES << 8, Register.SIZE: PAGES}
        return constants.get(address, self.base.get(address, 0))

    def write(self, address: int, value: int) -> None:
        assert 0 <= value < 1 << 32
        self.writes.append(address)
        if address == Register.WORD:
            self.device.write(value.to_bytes(4, "little"))
        elif address == Register.BYTE:
            self.device.write(bytes([value]))
        else:
            assert Register.BASE <= address < Register.BASE + 8 * PORTS
            self.base[address] = value


def test_a_device_behind_registers() -> None:
    """The recorded session, byte for byte, through words and single bytes."""
    random.seed(1)
    replay = ReplayTransport(RECORDED)
    registers = FakeLink(replay)
    bases = [START + 0x3000 * port for port in range(PORTS)]
    first, _ = session(Device(RegisterTransport(registers, bases, pause=lambda: None)))
    replay.end()
    assert first == golden(small_model(16), [5, 6], 8)
    assert registers.base == {
        Register.BASE + 8 * port + 4 * half: bases[port] >> 32 * half & 0xFFFFFFFF
        for port in range(PORTS)
        for half in (0, 1)
    }
    before = len(registers.writes)
    RegisterTransport(registers, bases)
    assert len(registers.writes) == before, "bases that are there are not written again: a tape may be running"


def test_what_registers_refuse(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(
        TritapeError, match=r"^a: register ID must read 0x54524c31, not 0x00000007; load tritape's bitstream"
    ):
        RegisterTransport(FakeLink(ident=7), [0] * PORTS, "a")
    for bases in ([0], [0, 4096, 8192, 100]):
        wanted = f"a: bases must be 4 multiples of 4096, not {bases!r}; give others"
        with pytest.raises(TritapeError, match=f"^{re.escape(wanted)}$"):
            RegisterTransport(FakeLink(), bases, "a")
    monkeypatch.setattr("tritape.host.transport.registers.FULL_S", 0.01)
    registers = FakeLink()
    transport = RegisterTransport(registers, [0] * PORTS, "a")
    assert transport.read(0.001) == b""
    registers.room = 0
    with pytest.raises(TritapeError, match=r"^a: device must take bytes, not be full for 0\.01 s; load it again$"):
        transport.write(b"x")
    registers.waiting += bytes(1200)
    transport.discard()
    assert not registers.waiting


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """The files of a KV260 with tritape's overlay, a second UIO device before it."""
    files = {
        "sys/class/uio/uio0/name": "axi-pmon\n", "sys/class/uio/uio1/name": "tritape\n",
        "sys/class/u-dma-buf/tritape/size": f"{PORTS * PAGES * 4096}\n",
        "sys/class/u-dma-buf/tritape/phys_addr": f"{START:#018x}\n",
    }  # fmt: skip
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    page = bytearray(4096)
    for register, value in (
        (Register.ID, MAGIC), (Register.SHAPE, PORTS | LINE_BYTES << 8), (Register.SIZE, PAGES), (Register.STATUS, 511 << 16),
    ):  # fmt: skip
        page[register : register + 4] = value.to_bytes(4, "little")
    (tmp_path / "dev").mkdir()
    (tmp_path / "dev/uio0").write_bytes(bytes(4096))
    (tmp_path / "dev/uio1").write_bytes(page)
    (tmp_path / "dev/tritape").write_bytes(bytes(PORTS * PAGES * 4096))
    return tmp_path


def register(root: Path, address: int) -> int:
    return int.from_bytes((root / "dev/uio1").read_bytes()[address : address + 4], "little")


def test_uio_on_files(root: Path) -> None:
    transport = UIOTransport("tritape", root)
    with pytest.raises(
        TritapeError, match=r"^uio:tritape: port must be free, not used by another program; close that one$"
    ):
        UIOTransport("tritape", root)
    for port in range(PORTS):
        low, high = register(root, Register.BASE + 8 * port), register(root, Register.BASE + 8 * port + 4)
        assert low | high << 32 == START + port * PAGES * 4096
    transport.write(b"\x01\x02\x03\x04\x05")
    assert (register(root, Register.WORD), register(root, Register.BYTE)) == (0x04030201, 5)
    assert isinstance(transport, PlacingTransport)
    assert not isinstance(RegisterTransport(FakeLink(), [0] * PORTS), PlacingTransport)
    image = random.Random(1).randbytes(PORTS * LINE_BYTES * 100 + 21)
    Link(transport).place(image)
    parts = stripes(image, PORTS, LINE_BYTES)
    memory = (root / "dev/tritape").read_bytes()
    assert memory == b"".join(part.ljust(PAGES * 4096, b"\0") for part in parts)
    back = b"".join(part[at : at + LINE_BYTES] for at in range(0, len(parts[0]), LINE_BYTES) for part in parts)
    assert back[: len(image)] == image
    transport.close()
    transport.close()
    UIOTransport("tritape", root).close()


def test_what_is_wrong_on_the_board(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(message: str, name: str = "tritape") -> None:
        with pytest.raises(TritapeError, match=message):
            UIOTransport(name, root)

    refused(
        r"^uio:mine: UIO device must be one of axi-pmon, tritape, not 'mine'; load the overlay, and uio_pdrv_genirq",
        "mine",
    )
    refused(r"^uio:axi-pmon: register ID must read 0x54524c31, not 0x00000000; load tritape's bitstream", "axi-pmon")
    size = root / "sys/class/u-dma-buf/tritape/size"
    size.write_text("49151\n")
    refused(r"^uio:tritape: buffer must have at least 49152 bytes, not 49151; raise its size in the overlay, and cma=$")
    size.write_text("many\n")
    refused(
        r"u-dma-buf/tritape/size: file must hold a number, not fail \(invalid literal .*\); load the module u-dma-buf"
    )
    size.write_text("49152\n")
    (root / "sys/class/u-dma-buf/tritape/phys_addr").write_text("0x80000800\n")
    refused(r"^uio:tritape: bases must be 4 multiples of 4096, not \[2147485696, ")
    (root / "dev/tritape").unlink()
    refused(r"/dev/tritape: device must open, not fail \(No such file or directory\); load its driver again$")
    (root / "sys/class/u-dma-buf/tritape").rename(root / "gone")
    refused(
        r"^uio:tritape: buffer must exist, not be missing in \S+/u-dma-buf; load the module u-dma-buf and the overlay$"
    )
    (root / "dev/uio1").write_bytes(b"")
    refused(r"/dev/uio1: device must have a page of registers, not fail \(.*\); check its reg$")

    def forbidden(*_: object) -> int:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("tritape.host.transport.uio.os.open", forbidden)
    refused(r"/dev/uio1: device must be open to you, not forbidden; run as root, or give it a udev rule$")


def test_the_name_chooses_the_transport(monkeypatch: pytest.MonkeyPatch) -> None:
    opened = []
    monkeypatch.setattr("tritape.host.transport.uio.UIOTransport", lambda name: opened.append(name))
    open_port("uio:tritape", 9600)
    assert opened == ["tritape"]
    transport = open_port("loop://", 9600)
    assert isinstance(transport, SerialTransport)
    transport.close()
