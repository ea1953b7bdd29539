"""An INA226 on an I2C bus of this machine, driven directly: for a shunt wired to a Raspberry Pi or a USB-I2C bridge."""

from __future__ import annotations

import fcntl
import os
from typing import Literal, Protocol

from tritape.base.errors import TritapeError

I2C_SLAVE = 0x0703  # ioctl of /dev/i2c-N
CONFIGURATION, SHUNT_VOLTAGE, BUS_VOLTAGE, MANUFACTURER = 0x00, 0x01, 0x02, 0xFE
MANUFACTURER_ID = 0x5449  # "TI"
CONTINUOUS = 0x4127  # no averaging, 1.1 ms a conversion, shunt and bus voltage continuously: the value after reset
SHUNT_VOLTS = 2.5e-6  # of one step
BUS_VOLTS = 1.25e-3


class Bus(Protocol):
    """Reads and writes 16-bit registers of one I2C device."""

    def read(self, register: int) -> int: ...

    def write(self, register: int, value: int) -> None: ...

    def close(self) -> None: ...


class INA226:
    """`watts = shunt voltage / ohms * bus voltage`, from registers 01h and 02h; a new pair every 2.2 ms.

    The calibration register is not used: the division is done here, without its rounding. Sees what flows through the
    shunt; the bus voltage is that at the chip's VBUS pin. Current in either direction counts as consumption.

    Raises TritapeError when the bus cannot be opened or the chip there is no INA226. Source: SBOS547 section 7.6.
    Tested: register arithmetic against a fake bus (tests/test_host_power.py); not with a chip.
    """

    unit: Literal["W", "J"] = "W"

    def __init__(self, bus: Bus, ohms: float, name: str = "ina226") -> None:
        if not ohms > 0:
            raise TritapeError(f"{name}: shunt must be more than 0 ohms, not {ohms!r}; read it off the board")
        self.name = name
        self.scope = "what flows through the shunt"
        self._bus, self._ohms = bus, ohms
        try:
            maker = bus.read(MANUFACTURER)
            if maker == MANUFACTURER_ID:
                bus.write(CONFIGURATION, CONTINUOUS)
        except OSError as error:
            bus.close()
            raise TritapeError(
                f"{name}: chip must answer on the bus, not fail ({error.strerror}); check wiring and address"
            ) from error
        if maker != MANUFACTURER_ID:
            bus.close()
            raise TritapeError(
                f"{name}: manufacturer register must be {MANUFACTURER_ID:#06x} (INA226), not {maker:#06x}; check the address"
            )

    @classmethod
    def from_text(cls, text: str) -> INA226:
        """From `BUS:ADDRESS:OHMS`, such as `1:0x40:0.002`."""
        parts = text.split(":")
        try:
            if len(parts) != 3:
                raise ValueError
            bus, address, ohms = int(parts[0], 0), int(parts[1], 0), float(parts[2])
        except ValueError:
            raise TritapeError(
                f"ina226 must be BUS:ADDRESS:OHMS, not {text!r}; write for example 1:0x40:0.002"
            ) from None
        return cls(LinuxBus(bus, address), ohms, f"ina226:{text}")

    def read(self) -> float:
        """Watts now."""
        shunt = self._bus.read(SHUNT_VOLTAGE)
        amperes = abs(shunt - ((shunt & 0x8000) << 1)) * SHUNT_VOLTS / self._ohms
        return amperes * self._bus.read(BUS_VOLTAGE) * BUS_VOLTS

    def close(self) -> None:
        """Close the bus."""
        self._bus.close()


class LinuxBus:
    """One device on /dev/i2c-N. Raises TritapeError when it cannot be opened."""

    def __init__(self, number: int, address: int) -> None:
        if not 0x03 <= address <= 0x77:
            raise TritapeError(
                f"I2C address must be from 0x03 to 0x77, not {address:#04x}; an INA226 is at 0x40 to 0x4f"
            )
        path = f"/dev/i2c-{number}"
        try:
            self._file = os.open(path, os.O_RDWR | os.O_CLOEXEC)
        except OSError as error:
            raise TritapeError(
                f"{path}: I2C bus must be readable and writable, not {error.strerror!r}; "
                "run: modprobe i2c-dev, and join group i2c"
            ) from error
        try:
            fcntl.ioctl(self._file, I2C_SLAVE, address)
        except OSError as error:
            os.close(self._file)
            raise TritapeError(
                f"{path}: address {address:#04x} must be free, not {error.strerror!r}; a kernel driver has it: use hwmon"
            ) from error

    def read(self, register: int) -> int:
        """A register, most significant byte first. The chip keeps its register pointer from the write to the read."""
        os.write(self._file, bytes([register]))
        return int.from_bytes(os.read(self._file, 2), "big")

    def write(self, register: int, value: int) -> None:
        """Set a register."""
        os.write(self._file, bytes([register, value >> 8, value & 0xFF]))

    def close(self) -> None:
        """Close the bus; may be called twice."""
        if self._file >= 0:
            os.close(self._file)
            self._file = -1
