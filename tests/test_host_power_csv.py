"""Files of power meters as their programs write them (tests/data/meters), and files that are refused before the run."""

from __future__ import annotations

import threading
import time
from datetime import datetime
from pathlib import Path

import pytest

from tritape.base.errors import TritapeError
from tritape.host.power import open_source
from tritape.host.power.csv_columns import read_column
from tritape.host.power.csv_trace import CSVFile

METERS = Path(__file__).parent / "data" / "meters"
NOON_UTC = 1772366400.0
"""2026-03-01 12:00 UTC."""
NOON = datetime(2026, 3, 1, 12).timestamp()
"""The same by the clock on the wall, as nvidia-smi writes it."""


def meter(name: str, settings: str = "") -> CSVFile:
    made = open_source(f"csv:{METERS / name}{settings}")
    assert isinstance(made, CSVFile)
    made.check()
    return made


@pytest.mark.parametrize(
    ("name", "settings", "begin", "seconds", "joules"),
    [
        ("nvidia-smi.csv", "", NOON, 1.5, 0.5 * 71 + 72),
        ("nvidia-smi-two-gpus.csv", ",rails=0", NOON, 2, 20),
        ("nvidia-smi-two-gpus.csv", ",rails=1", NOON + 0.003, 2, 40),
        ("nvidia-smi-two-gpus.csv", ",rails=0+1", NOON + 0.003, 1.9, 57),
        ("nvidia-smi-two-gpus.csv", ",rails=all", NOON + 0.003, 1.9, 57),
        ("joulescope.csv", ",start=2026-03-01T12:00:00Z", NOON_UTC, 1, 1 + 1.5),
        ("joulescope.csv", f",start={NOON_UTC}", NOON_UTC, 0.5, 1),
        ("ppk2.csv", ",volts=5,start=2026-03-01T12:00:00", NOON, 1, 0.5 * 0.0005 + 1.0 * 0.9995),
        ("ppk2.csv", ",volts=3.3V,start=2026-03-01T13:00:00+01:00", NOON_UTC, 1, 3.3 * (0.1 * 0.0005 + 0.2 * 0.9995)),
        ("excel-decimal-comma.csv", "", NOON_UTC, 2, 10.005),
        ("windows-tabs.csv", "", NOON_UTC, 1, 2.5),
        ("three-rails.csv", ",rails=vccint", NOON_UTC, 2, 2.0),
        ("three-rails.csv", ",rails=VCCINT+vccaux", NOON_UTC, 2, 2.4),
        ("three-rails.csv", ",rails=all", NOON_UTC, 2, 2.46),
        ("volts-and-amperes.csv", ",rails=1", NOON, 1, 2.0),
        ("volts-and-amperes.csv", ",rails=all", NOON, 1, 5.3),
    ],
)
def test_files_of_meters(name, settings, begin, seconds, joules):
    trace = meter(name, settings).read()
    assert trace.energy(begin, begin + seconds) == pytest.approx(joules, rel=1e-6)


@pytest.mark.parametrize(
    ("name", "unit", "scale", "rest"),
    [
        ("power.draw.instant [W]", "W", 1.0, "instant"),
        ("Power 2 (mW)", "W", 1e-3, "2"),
        ("power1", "W", None, "1"),
        ("vccint_w", "W", 1.0, "vccint"),
        ("Current(uA)", "A", 1e-6, ""),
        ("Current (µA)", "A", 1e-6, ""),
        ("voltage in millivolts", "V", 1e-3, "in"),
        ("unix_time_ns", "s", 1e-9, ""),
        ("seconds since 2026-01-01T00:00:00Z", "s", 1.0, ""),
    ],
)
def test_columns(name, unit, scale, rest):
    column = read_column(0, name)
    assert column is not None
    assert (column.unit, column.scale, column.rest) == (unit, scale, rest)


@pytest.mark.parametrize("name", ["power.limit [W]", "current_max", "charge (C)", "Energy (Wh)", "D0-D7", "busy_s", ""])
def test_columns_that_are_no_samples(name):
    assert read_column(0, name) is None


@pytest.mark.parametrize("stamp", ["1772366400", "1772366400000", "1772366400000000", "1772366400000000000"])
def test_epochs_of_any_unit(tmp_path, stamp):
    later = str(int(stamp) * 1772366401 // 1772366400)
    (tmp_path / "m.csv").write_text(f"timestamp,watts\n{stamp},2\n{later},2\n")
    assert CSVFile(tmp_path / "m.csv").read().energy(NOON_UTC, NOON_UTC + 1) == pytest.approx(2)


@pytest.mark.parametrize("header", ["time since 2026-03-01T12:00:00Z (s),watts", f"time from {NOON_UTC:.0f} (s),watts"])
def test_an_epoch_in_the_header(tmp_path, header):
    (tmp_path / "m.csv").write_text(f"{header}\n0,2\n1,2\n")
    assert CSVFile(tmp_path / "m.csv").read().energy(NOON_UTC, NOON_UTC + 1) == pytest.approx(2)


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "latin-1"])
def test_encodings(tmp_path, encoding):
    (tmp_path / "m.csv").write_bytes("time;µW\r\n1772366400;2e6\r\n1772366401;2e6\r\n".encode(encoding))
    source = CSVFile(tmp_path / "m.csv")
    source.check()
    assert source.read().energy(NOON_UTC, NOON_UTC + 1) == pytest.approx(2)


@pytest.mark.parametrize(
    ("name", "settings", "message"),
    [
        (
            "none.csv",
            "",
            "none.csv: trace must be there before the run, not missing; start the meter first, or .* --power-wait",
        ),
        (
            "joulescope.csv",
            "",
            "times must be Unix time or dates, not 0 from the meter's own start; say when that was: .*start=",
        ),
        (
            "ppk2.csv",
            "",
            r"rail 'Current\(uA\)' must have a voltage, not only a current; give the supply's: .*,volts=5",
        ),
        ("ppk2.csv", ",volts=5", "times must be Unix time or dates"),
        (
            "three-rails.csv",
            "",
            r"rails must be chosen where there are several \(vccint, vccaux, vcco\), not left out; give .*"
            "rails=vccint for one, rails=vccint.vccaux for a sum, rails=all for all",
        ),
        (
            "nvidia-smi-two-gpus.csv",
            "",
            r"rails must be chosen where there are several \(0, 1\), not left out; give .*rails=0",
        ),
        ("three-rails.csv", ",rails=vcc", "rail must be one of vccint, vccaux, vcco, not 'vcc'; choose one"),
        ("three-rails.csv", ",rails=vcco+vcco", "rail must be another one of vccint, vccaux, vcco, not 'vcco'"),
        ("three-rails.csv", ",volts=-1", "volts must be more than 0, not -1.0; give the supply's voltage"),
        ("three-rails.csv", ",start=noon", "start Unix time or a date such as 2026-01-31T12:00:00, not .*start=noon'"),
    ],
)
def test_wrong_files_are_noticed_before_the_run(name, settings, message):
    with pytest.raises(TritapeError, match=message):
        meter(name, settings)


@pytest.mark.parametrize(
    ("text", "settings", "message"),
    [
        (
            "time,watts\n11/28/2026 12:00:00,5\n",
            "",
            "line 2 must have numbers with rising time, not '11/28/2026 12:00:00,5'",
        ),
        ("time,watts\n1772366400,5\n1772366401,many\n", "", "line 3 must have numbers with rising time"),
        ("time,watts\n1772366400,5\n1772366399,5\n", "", "line 3 must have numbers with rising time"),
        (
            "time,gpu,watts\n" + "".join(f"17723664{row:02},{row % 2},5\n" for row in range(4)),
            ",rails=2",
            "rail must be one of 0, 1, not '2'; choose one",
        ),
    ],
)
def test_wrong_lines_are_noticed_before_the_run(tmp_path, text, settings, message):
    (tmp_path / "m.csv").write_text(text)
    source = open_source(f"csv:{tmp_path / 'm.csv'}{settings}")
    assert isinstance(source, CSVFile)
    with pytest.raises(TritapeError, match=message):
        source.check()


def test_a_file_whose_last_line_is_being_written(tmp_path):
    for text in ("time,watts\n", "time,watts\n17723", "time,watts\n1772366400,5\n1772366401,"):
        (tmp_path / "m.csv").write_text(text)
        CSVFile(tmp_path / "m.csv").check()
    (tmp_path / "m.csv").write_text("time,gpu,watts\n1772366400,0,5\n1772366400,1,5\n")
    CSVFile(tmp_path / "m.csv", rails=("2",)).check()  # its row is to come


def test_a_file_that_comes_later(tmp_path):
    CSVFile(tmp_path / "later.csv").check(may_come=True)
    with pytest.raises(TritapeError, match="trace must be there before the run"):
        CSVFile(tmp_path / "no" / "later.csv").check(may_come=True)
    (tmp_path / "empty.csv").touch()
    CSVFile(tmp_path / "empty.csv").check()


def test_a_file_name_with_commas_and_spaces(tmp_path):
    path = tmp_path / "my meter, second.csv"
    path.write_text("time,watts\n1772366400,2\n1772366401,2\n")
    source = open_source(f"csv:{path}")
    assert isinstance(source, CSVFile)
    assert source.path == path


def test_a_live_file_is_waited_for(tmp_path):
    """The meter writes on while the host waits for the sample behind the end, which is cut in two when it is first seen."""
    path = tmp_path / "live.csv"
    path.write_text("time,watts\n1772366400,2\n")
    source = CSVFile(path)

    def write() -> None:
        with path.open("a", buffering=1) as stream:
            stream.write("1772366")
            stream.flush()
            time.sleep(0.3)
            stream.write("403,2\n1772366404,")

    writer = threading.Thread(target=write)
    writer.start()
    source.wait(NOON_UTC + 2, 20)
    writer.join()
    assert source.read().energy(NOON_UTC, NOON_UTC + 2) == pytest.approx(4)
    began = time.monotonic()
    source.wait(NOON_UTC + 100, 0.2)
    assert 0.2 <= time.monotonic() - began < 5


def test_a_file_behind_windows_line_ends_and_a_comment_in_its_middle(tmp_path):
    (tmp_path / "m.csv").write_bytes(b"time,watts\r\n1772366400,2\r\n# restarted\r\n\r\n1772366401,2")
    assert CSVFile(tmp_path / "m.csv").read().energy(NOON_UTC, NOON_UTC + 1) == pytest.approx(2)
