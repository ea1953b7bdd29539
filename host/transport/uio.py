"""An accelerator in the fabric beside this processor: its registers over UIO, its memory in a u-dma-buf."""

from __future__ import annotations

import errno
import fcntl
import mmap
import os
from pathlib import Path

from tritape.base.errors import TritapeError
from tritape.host.transport import UIO
from tritape.host.transport.registers import RegisterTransport, require_tritape, shape, stripes
from tritape.hw.link.axi_lite import WINDOW_BITS


class MappedRegisters:
    """The first page of a UIO device as 32-bit registers; every access is one load or store of 32 bits."""

    def __init__(self, path: Path) -> None:
        file = _open(path)
        try:
            self._map = mmap.mmap(file, 1 << WINDOW_BITS)
        except (OSError, ValueError) as error:
            raise TritapeError(
                f"{path}: device must have a page of registers, not fail ({error}); check its reg"
            ) from error
        finally:
            os.close(file)
        self._words = memoryview(self._map).cast("I")

    def read(self, address: int) -> int:
        """See `Registers`."""
        return self._words[address >> 2]

    def write(self, address: int, value: int) -> None:
        """See `Registers`."""
        self._words[address >> 2] = value

    def close(self) -> None:
        """Give the mapping back. May be called twice."""
        self._words.release()
        self._map.close()


class UIOTransport(RegisterTransport):
    """`Transport` over the UIO device called `name`, whose memory is the u-dma-buf of the same name.

    The ports of the memory lie one behind the other in the buffer. `place` writes an image there, which is faster than over
    the link. `root` is where `sys` and `dev` are. Raises TritapeError, with the cure, for a device or buffer that is missing,
    not permitted, too small, used by another program, or not tritape's. Tested against files
    (tests/test_host_uio.py), not on a board.
    """

    def __init__(self, name: str, root: Path = Path("/")) -> None:
        label, self._buffer = UIO + name, -1
        self._mapped = registers = MappedRegisters(root / "dev" / _uio(name, root))
        try:
            require_tritape(registers, label)
            self._ports, self._line_bytes, self._port_bytes = shape(registers)
            folder = root / "sys/class/u-dma-buf" / name
            if not folder.is_dir():
                raise TritapeError(
                    f"{label}: buffer must exist, not be missing in {folder.parent}; load the module u-dma-buf and the overlay"
                )
            size, wanted = _number(folder / "size"), self._ports * self._port_bytes
            if size < wanted:
                raise TritapeError(
                    f"{label}: buffer must have at least {wanted} bytes, not {size}; raise its size in the overlay, and cma="
                )
            start = _number(folder / "phys_addr")
            self._buffer = _open(root / "dev" / name)
            try:
                fcntl.flock(self._buffer, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError as error:
                raise TritapeError(
                    f"{label}: port must be free, not used by another program; close that one"
                ) from error
            super().__init__(registers, [start + port * self._port_bytes for port in range(self._ports)], label)
        except BaseException:
            self.close()
            raise

    def place(self, image: bytes) -> None:
        """Write a tape's image into the buffer, striped over the ports; with O_SYNC the driver makes it visible to them."""
        for port, part in enumerate(stripes(image, self._ports, self._line_bytes)):
            at, left = port * self._port_bytes, memoryview(part)
            while left:
                done = os.pwrite(self._buffer, left, at)
                at, left = at + done, left[done:]

    def close(self) -> None:
        """See `Transport`."""
        if self._buffer >= 0:
            os.close(self._buffer)
            self._buffer = -1
        self._mapped.close()


def _uio(name: str, root: Path) -> str:
    """The device `uioN` whose name is `name`."""
    found = {path.read_text().strip(): path.parent.name for path in sorted(root.glob("sys/class/uio/uio*/name"))}
    if name not in found:
        raise TritapeError(
            f"{UIO}{name}: UIO device must be one of {', '.join(found) or 'none'}, not {name!r}; load the overlay, and "
            "uio_pdrv_genirq with of_id=generic-uio"
        )
    return found[name]


def _open(path: Path) -> int:
    try:
        return os.open(path, os.O_RDWR | os.O_SYNC)
    except OSError as error:
        if error.errno in (errno.EACCES, errno.EPERM):
            raise TritapeError(
                f"{path}: device must be open to you, not forbidden; run as root, or give it a udev rule"
            ) from error
        raise TritapeError(f"{path}: device must open, not fail ({error.strerror}); load its driver again") from error


def _number(path: Path) -> int:
    """An integer of sysfs, decimal or 0x."""
    try:
        return int(path.read_text(), 0)
    except (OSError, ValueError) as error:
        raise TritapeError(
            f"{path}: file must hold a number, not fail ({error}); load the module u-dma-buf again"
        ) from error
