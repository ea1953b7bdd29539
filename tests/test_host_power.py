"""Power sensors on fake trees, buses and libraries; wrong input."""

from __future__ import annotations

from pathlib import Path

import pytest

from tritape.base.errors import TritapeError
from tritape.host.power import open_sensor, read_csv
from tritape.host.power.hwmon import Hwmon
from tritape.host.power.ina226 import BUS_VOLTAGE, CONFIGURATION, CONTINUOUS, INA226, SHUNT_VOLTAGE
from tritape.host.power.nvml import NVML
from tritape.host.power.rapl import RAPL


def tree(root: Path, files: dict[str, str]) -> Path:
    for name, text in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)
    return root


def test_hwmon_power_file(tmp_path):
    root = tree(
        tmp_path,
        {
            "hwmon0/name": "k10temp\n",
            "hwmon1/name": "ina260_u14\n",
            "hwmon1/power1_input": "3450000\n",
            "hwmon2/name": "ina219\n",
            "hwmon2/in1_input": "5020\n",
            "hwmon2/curr1_input": "730\n",
        },
    )
    assert Hwmon(None, root).read() == pytest.approx(3.45)
    assert Hwmon(None, root).name == "hwmon:ina260_u14"
    assert Hwmon("ina219", root).read() == pytest.approx(5.02 * 0.73)
    with pytest.raises(TritapeError, match=r"\(there: ina260_u14, ina219\), not 'k10temp'; load its driver"):
        Hwmon("k10temp", root)
    with pytest.raises(TritapeError, match=r"\(there: none\), not None"):
        Hwmon(None, tmp_path / "nothing")


def test_hwmon_of_a_kv260(tmp_path):
    """The module's INA260 by name, behind others that measure something too; power, not the product of the other two."""
    root = tree(
        tmp_path,
        {
            "hwmon0/name": "ir38060\n",
            "hwmon0/power1_input": "1000000\n",
            "hwmon1/name": "xilinx_ams\n",
            "hwmon1/in1_input": "850\n",
            "hwmon2/name": "ina260_u14\n",
            "hwmon2/power1_input": "5060000\n",
            "hwmon2/in1_input": "5025\n",
            "hwmon2/curr1_input": "1011\n",
        },
    )
    sensor = Hwmon("ina260_u14", root)
    assert sensor.read() == pytest.approx(5.06)
    assert (sensor.name, sensor.scope, sensor.unit) == ("hwmon:ina260_u14", "the rail of ina260_u14", "W")


def two_chips(root: Path) -> Path:
    return tree(
        root,
        {
            "hwmon2/name": "ina226\n",
            "hwmon2/power1_input": "5000000\n",
            "hwmon10/name": "ina226\n",
            "hwmon10/power1_input": "900000\n",
            "hwmon11/name": "ina3221\n",
            **{f"hwmon11/in{channel}_input": "1000\n" for channel in (1, 2, 3, 4)},
            **{f"hwmon11/curr{channel}_input": f"{channel}00\n" for channel in (1, 2, 3)},
            "hwmon12/name": "amdgpu\n",
            "hwmon12/power1_average": "25000000\n",
        },
    )


def test_hwmon_of_one_name_twice(tmp_path):
    root = two_chips(tmp_path)
    with pytest.raises(
        TritapeError,
        match=r"must be one rail, not 'ina226', which is ina226@2 and ina226@10; give hwmon:ina226@2 for one, "
        r"hwmon:ina226@2\+ina226@10 for their sum",
    ):
        Hwmon("ina226", root)
    with pytest.raises(TritapeError, match="must be one rail, not 'ina226'"):
        Hwmon(None, root)
    assert Hwmon("ina226@2", root).read() == pytest.approx(5.0)
    assert Hwmon("ina226@10", root).read() == pytest.approx(0.9)
    assert Hwmon(str(root / "hwmon10"), root).read() == pytest.approx(0.9)
    assert Hwmon(str(root / "hwmon10" / "power1_input"), root).read() == pytest.approx(0.9)
    both = Hwmon("ina226@2+ina226@10", root)
    assert both.read() == pytest.approx(5.9)
    assert (both.name, both.scope) == ("hwmon:ina226@2+ina226@10", "the rails of ina226@2+ina226@10")
    with pytest.raises(TritapeError, match=r"\(there: ina226@2, ina226@10, ina3221/1, .*\), not 'ina226@3'"):
        Hwmon("ina226@3", root)
    with pytest.raises(TritapeError, match="must be different ones"):
        Hwmon("ina226@2+ina226@2", root)


def test_hwmon_of_a_chip_with_several_channels(tmp_path):
    root = two_chips(tmp_path)
    with pytest.raises(
        TritapeError, match="which is ina3221/1 and ina3221/2 and ina3221/3; give hwmon:ina3221/1 for one"
    ):
        Hwmon("ina3221", root)
    assert Hwmon("ina3221/2", root).read() == pytest.approx(0.2)
    assert Hwmon("ina3221/1+ina3221/3", root).read() == pytest.approx(0.4)
    assert Hwmon("amdgpu", root).read() == pytest.approx(25)


def test_hwmon_damaged_file_is_an_os_error(tmp_path):
    root = tree(tmp_path, {"hwmon1/name": "x\n", "hwmon1/power1_input": "n/a\n"})
    with pytest.raises(OSError, match="no integer in"):
        Hwmon("x", root).read()


class FakeBus:
    """Registers of an INA226; `fail` makes every access raise."""

    def __init__(self, **more: int) -> None:
        self.registers = {0xFE: 0x5449, CONFIGURATION: 0, SHUNT_VOLTAGE: 0, BUS_VOLTAGE: 0}
        self.closed = self.fail = False
        self.registers.update({int(key[1:], 16): value for key, value in more.items()})

    def read(self, register: int) -> int:
        if self.fail:
            raise OSError(121, "Remote I/O error")
        return self.registers[register]

    def write(self, register: int, value: int) -> None:
        self.registers[register] = value

    def close(self) -> None:
        self.closed = True


def test_ina226_arithmetic():
    bus = FakeBus()
    sensor = INA226(bus, 0.002)
    assert bus.registers[CONFIGURATION] == CONTINUOUS
    bus.registers |= {SHUNT_VOLTAGE: 4000, BUS_VOLTAGE: 4000}  # 10 mV over 2 mohm is 5 A; 5 V
    assert sensor.read() == pytest.approx(25.0)
    bus.registers[SHUNT_VOLTAGE] = 0x10000 - 4000  # the shunt the other way round
    assert sensor.read() == pytest.approx(25.0)
    bus.registers[SHUNT_VOLTAGE] = 0x8000
    assert sensor.read() == pytest.approx(32768 * 2.5e-6 / 0.002 * 5)


def test_ina226_refuses_other_chips_and_closes():
    bus = FakeBus(rFE=0x1234)
    with pytest.raises(TritapeError, match=r"manufacturer register must be 0x5449 \(INA226\), not 0x1234"):
        INA226(bus, 0.002)
    assert bus.closed
    assert bus.registers[CONFIGURATION] == 0, "nothing is written to a chip that is not an INA226"
    bus = FakeBus()
    bus.fail = True
    with pytest.raises(TritapeError, match="chip must answer on the bus, not fail"):
        INA226(bus, 0.002)
    assert bus.closed


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("ina226", "ina226 must be BUS:ADDRESS:OHMS, not ''"),
        ("ina226:1:0x40:", "ina226 must be BUS:ADDRESS:OHMS"),
        ("ina226:1:0x99:0.002", "I2C address must be from 0x03 to 0x77, not 0x99"),
        ("ina226:987:0x40:0.002", "/dev/i2c-987: I2C bus must be readable and writable"),
        ("rapl:x", "power source must be one of"),
        ("magic", "power source must be one of .* not 'magic'; choose one"),
    ],
)
def test_wrong_sources(text, message):
    with pytest.raises(TritapeError, match=message):
        open_sensor(text)


def test_rapl_sums_packages_and_unwraps(tmp_path):
    def files(first: int, second: int) -> dict[str, str]:
        return {
            "intel-rapl:0/name": "package-0",
            "intel-rapl:0/energy_uj": str(first),
            "intel-rapl:0/max_energy_range_uj": "9999",
            "intel-rapl:1/name": "package-1",
            "intel-rapl:1/energy_uj": str(second),
            "intel-rapl:1/max_energy_range_uj": "99999",
            "intel-rapl:2/name": "psys",  # would count the packages twice
            "intel-rapl:2/energy_uj": str(7 * first),
            "intel-rapl:2/max_energy_range_uj": "99999",
            "intel-rapl:0:0/name": "core",
            "intel-rapl:0:0/energy_uj": "5",
        }

    root = tree(tmp_path, files(9000, 100))
    sensor = RAPL(root)
    assert sensor.scope == "2 processor packages"
    assert sensor.read() == 0
    tree(tmp_path, files(9999, 200))
    assert sensor.read() == pytest.approx(1099e-6)
    tree(tmp_path, files(500, 300))  # 9999 to 0 is one step
    assert sensor.read() == pytest.approx((999 + 501 + 200) * 1e-6)


def test_rapl_absent_or_locked(tmp_path):
    with pytest.raises(TritapeError, match="rapl must have a package domain"):
        RAPL(tmp_path)
    root = tree(tmp_path, {"intel-rapl:0/name": "package-0", "intel-rapl:0/max_energy_range_uj": "9"})
    with pytest.raises(TritapeError, match=r"counter must be readable, not 'No such file or directory'; run as root"):
        RAPL(root)


class FakeNvml:
    class NVMLError(Exception):
        pass

    def __init__(self, counter: bool, count: int = 1) -> None:
        self.counter, self.count, self.shut = counter, count, 0

    def nvmlInit(self) -> None: ...

    def nvmlShutdown(self) -> None:
        self.shut += 1

    def nvmlDeviceGetHandleByIndex(self, index: int) -> int:
        if index >= self.count:
            raise self.NVMLError("Invalid Argument")
        return index

    def nvmlDeviceGetTotalEnergyConsumption(self, _device: int) -> int:
        if not self.counter:
            raise self.NVMLError("Not Supported")
        return 123456

    def nvmlDeviceGetPowerUsage(self, _device: int) -> int:
        return 71500


def test_nvml():
    energy, power = NVML(0, FakeNvml(True)), NVML(0, FakeNvml(False))
    assert (energy.unit, energy.read()) == ("J", pytest.approx(123.456))
    assert (power.unit, power.read()) == ("W", pytest.approx(71.5))
    library = FakeNvml(True)
    with pytest.raises(TritapeError, match="nvml:3: GPU must exist, not fail"):
        NVML(3, library)
    assert library.shut == 1
    energy.close()
    energy.close()
    assert energy._library.shut == 1


def test_csv_of_a_meter(tmp_path):
    path = tmp_path / "meter.csv"
    path.write_text("Time_s,Voltage,Current_mA\n100.0,5,1000\n101.0,5,2000\n\n103.0,5,2000\n")
    assert read_csv(path).energy(100, 103) == pytest.approx(7.5 + 20)
    assert read_csv(path).energy(100.5, 101) == pytest.approx(3.75)
    path.write_text("time_ms,watts\n0,2\n500,2\n")
    assert read_csv(path).energy(0, 0.5) == pytest.approx(1.0)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a,b\n1,2\n", "header must name time and power, or time, voltage and current, not 'a,b'"),
        ("", "header must name"),
        ("time,watts\n1,2\n1,3\n", "line 3 must have numbers with rising time, not '1,3'"),
        ("time,watts\n1,x\n", "line 2 must have numbers"),
        ("time,watts\n1\n", "line 2 must have numbers"),
        ("time,watts\n1,nan\n", "line 2 must have numbers"),
        ("time,watts\n1,2\n", "trace must have at least 2 samples, not 1"),
    ],
)
def test_wrong_csv(tmp_path, text, message):
    path = tmp_path / "meter.csv"
    path.write_text(text)
    with pytest.raises(TritapeError, match=message):
        read_csv(path)
    with pytest.raises(TritapeError, match="trace must be readable, not 'No such file"):
        read_csv(tmp_path / "none.csv")
