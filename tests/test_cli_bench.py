"""`tritape bench --cpu` with meters that work, fail, come late and are wrong: what was measured is never lost."""

from __future__ import annotations

import json
import sys
import threading
import time
from pathlib import Path
from typing import Any, Literal

import pytest

from tritape import cli
from tritape.cli.bench import METERS
from tritape.cli.common import out
from tritape.host import meter
from tritape.host.power import SOURCES

PAGE = Path(__file__).parent.parent / "docs" / "measure.md"


class Outcome:
    def __init__(self, code: int, out: str, err: str, result: dict[str, Any] | None) -> None:
        self.code, self.out, self.err, self.result = code, " ".join(out.split()), err, result


@pytest.fixture
def bench(tmp_path, monkeypatch, capsys):
    """`bench("--cpu-power", ...)` in an empty folder: exit status, output, and the JSON, which must be JSON."""
    monkeypatch.chdir(tmp_path)

    def refuse(constant: str) -> None:
        raise AssertionError(f"{constant} is no JSON")

    def run(*arguments: str) -> Outcome:
        small = [
            "--cpu",
            "--model",
            "nano",
            "--tokens",
            "8",
            "--generations",
            "2",
            "--idle",
            "0.1",
            "--json",
            "out.json",
        ]
        monkeypatch.setattr(sys, "argv", ["tritape", "bench", *small, *arguments])
        with pytest.raises(SystemExit) as end:
            cli.main()
        output = capsys.readouterr()
        path = tmp_path / "out.json"
        result = json.loads(path.read_text(), parse_constant=refuse) if path.exists() else None
        assert isinstance(end.value.code, int)
        return Outcome(end.value.code, output.out, output.err, result)

    return run


@pytest.fixture
def live(tmp_path):
    """A meter that logs 5 W into `my meter.csv`, flushed at once, from before the run until after it."""
    path = tmp_path / "my meter.csv"
    stop = threading.Event()

    def log() -> None:
        with path.open("w", buffering=1) as stream:
            stream.write("time,watts\n")
            while not stop.is_set():
                stream.write(f"{time.time():.3f},5.0\n")
                time.sleep(0.05)

    thread = threading.Thread(target=log)
    thread.start()
    while not path.exists() or path.stat().st_size < 20:
        time.sleep(0.01)
    yield path
    stop.set()
    thread.join()


def test_a_meter_that_still_writes(bench, live):
    done = bench("--cpu-power", f"csv:{live}", "--plot", "power.png")
    assert done.code == 0, done.err
    assert done.result["cpu"]["watts"] == pytest.approx(5.0)
    assert done.result["cpu"]["watts_idle"] == pytest.approx(5.0)
    assert done.result["cpu"]["power_generations"] == 2
    assert Path("power.png").read_bytes().startswith(b"\x89PNG")


def test_a_meter_that_ended_too_early(bench, tmp_path):
    (tmp_path / "old.csv").write_text("time,watts\n1772366400,5\n1772366401,5\n")
    done = bench("--cpu-power", "csv:old.csv", "--power-wait", "0.1")
    assert done.code == 1
    assert done.result["cpu"]["tokens_per_second"] > 0
    assert "power samples must cover the time" in done.result["cpu"]["power_error"]
    assert "joules_per_token" not in done.result["cpu"]
    assert "tritape: cpu: power samples must cover the time" in done.err
    assert "tokens_per_second" in done.out


class Fading:
    """A sensor of 5 W that is lost after some samples."""

    unit: Literal["W", "J"] = "W"
    name, scope = "fading", "a rail"

    def __init__(self, samples: float) -> None:
        self.left = samples

    def read(self) -> float:
        self.left -= 1
        if self.left < 0:
            raise OSError(5, "Input/output error")
        return 5.0

    def close(self) -> None: ...


def test_a_sensor_that_is_lost(bench, monkeypatch):
    monkeypatch.setattr(meter, "open_source", lambda text: Fading(3))
    done = bench("--cpu-power", "fading", "--plot", "power.png")
    assert done.code == 1
    assert done.result["cpu"]["tokens_per_second"] > 0
    assert done.result["cpu"]["power_error"].startswith("fading: sensor must stay readable, not vanish after 3 samples")
    assert "tritape: cpu: fading: sensor must stay readable" in done.err


def test_a_sensor_that_is_lost_before_the_run(bench, monkeypatch):
    monkeypatch.setattr(meter, "open_source", lambda text: Fading(0))
    done = bench("--cpu-power", "fading")
    assert (done.code, done.result) == (2, None)
    assert done.err.endswith(
        "not vanish after 0 samples (Input/output error); check its cable or driver and run again\n"
    )


def test_json_on_standard_output_is_json_alone(bench, monkeypatch):
    """Nothing but JSON comes there; the table goes to stderr. (The descriptor is pytest's, so what came is read from it.)"""
    import os

    monkeypatch.setattr(out, "stderr", False)  # as it is when a program begins
    end, other = os.pipe()
    kept = os.dup(1)
    os.dup2(other, 1)
    try:
        done = bench("--json", "/dev/stdout")
    finally:
        os.dup2(kept, 1)
        os.close(other)
        os.close(kept)
    assert done.code == 0
    assert done.out == ""
    assert "tokens_per_second" in done.err
    with os.fdopen(end) as stream:
        assert json.loads(stream.read())["cpu"]["generations"] == 2


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--power", "rapl"], "--power must come with --port, not alone; add it"),
        (
            ["--cpu-power", "csv:none.csv"],
            "none.csv: trace must be there before the run, not missing; start the meter first",
        ),
        (
            ["--cpu-power", "csv:wrong.csv"],
            "wrong.csv: header must name time and power, or time, voltage and current, not 'a,b'",
        ),
        (["--cpu-power", "magic"], "power source must be one of hwmon"),
        (
            ["--cpu-power", "csv:right.csv", "--power-wait", "-1"],
            "power-wait must be from 0 to 86400 seconds, not -1.0",
        ),
        (["--idle", "nan"], "idle must be from 0 to 3600 seconds, not nan"),
        (["--plot", "power.png"], "a plot must have a power source, not none; add --power"),
    ],
)
def test_what_is_noticed_before_the_run(bench, tmp_path, monkeypatch, arguments, message):
    (tmp_path / "wrong.csv").write_text("a,b\n1,2\n")
    (tmp_path / "right.csv").write_text("time,watts\n1772366400,5\n")
    monkeypatch.setattr("tritape.host.bench.measure", lambda *a, **k: pytest.fail("it ran"))
    done = bench(*arguments)
    assert (done.code, done.result, done.out) == (2, None, "")
    assert done.err.startswith(f"tritape: {message}")
    assert done.err.count("\n") == 1


def test_the_page_and_the_help_have_every_source():
    table = [line.split("|")[1].strip() for line in PAGE.read_text().splitlines() if line.startswith("| `")]
    kinds = {line.strip("`").split(":")[0].split("[")[0] for line in table}
    for kind in (*SOURCES, "csv"):
        assert kind in kinds
        assert kind in METERS
