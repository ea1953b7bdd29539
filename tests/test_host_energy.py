"""Energy of a fake sysfs tree that a thread moves along a known waveform, and a whole measurement on it."""

from __future__ import annotations

import json
import math
import os
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from itertools import pairwise
from pathlib import Path

import pytest

from tritape.base.errors import TritapeError
from tritape.host import bench
from tritape.host.energy import Recorder
from tritape.host.power.hwmon import Hwmon
from tritape.host.power.rapl import RAPL
from tritape.host.power.trace import Trace


def put(path: Path, value: float) -> None:
    """Replace a file's text at once, as sysfs does."""
    temporary = path.with_suffix(".new")
    temporary.write_text(f"{round(value)}\n")
    os.replace(temporary, path)


class Waveform:
    """A thread that calls `write(t, watts(t))` every millisecond or so, t in seconds after the start, and keeps what it wrote.

    What the files showed is known exactly, however late the thread ran.
    """

    def __init__(self, write: Callable[[float, float], float]) -> None:
        self._write = write
        self._stop = threading.Event()
        self._zero = time.monotonic()
        self._unix = time.time() - self._zero
        self.shown: list[tuple[float, float]] = []  # Unix time, value from then on
        self._put()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _put(self) -> None:
        now = time.monotonic()
        value = self._write(now - self._zero, sine(now - self._zero))
        self.shown.append(((now + time.monotonic()) / 2 + self._unix, value))

    def _run(self) -> None:
        while not self._stop.wait(0.001):
            self._put()

    def end(self) -> None:
        self._stop.set()
        self._thread.join()

    def at(self, when: float) -> float:
        """The value shown at a time."""
        return next(value for start, value in reversed(self.shown) if start <= when)

    def integral(self, start: float, end: float) -> float:
        """Integral of the value shown."""
        total = 0.0
        for (begin, value), (after, _) in pairwise([*self.shown, (math.inf, 0.0)]):
            total += value * max(0.0, min(after, end) - max(begin, start))
        return total


def hwmon(folder: Path) -> Path:
    (folder / "hwmon0").mkdir()
    (folder / "hwmon0" / "name").write_text("ina260_u14\n")
    (folder / "hwmon0" / "power1_input").write_text("0\n")
    return folder


def sine(t: float) -> float:
    """3 W and 2 W up and down, once in 1.2 s."""
    return 3.0 + 2.0 * math.sin(2 * math.pi * t / 1.2)


def sine_joules(t: float) -> float:
    whole = 2 * math.pi / 1.2
    return 3.0 * t + 2.0 / whole * (1 - math.cos(whole * t))


def test_power_waveform_within_one_percent(tmp_path):
    """A waveform through power1_input, over windows whose energy is known."""
    path = hwmon(tmp_path) / "hwmon0" / "power1_input"

    def write(_t: float, watts: float) -> float:
        put(path, watts * 1e6)
        return watts

    wave = Waveform(write)
    with Recorder(Hwmon(None, tmp_path)) as recorder:
        time.sleep(2.0)
    wave.end()
    assert len(recorder.trace) > 50
    start, end = recorder.trace.times[0], recorder.trace.times[-1]
    for begin, finish in ((start, end), (start + 0.1, end - 0.3), (start + 0.51, start + 1.2)):
        assert recorder.trace.energy(begin, finish) == pytest.approx(wave.integral(begin, finish), rel=0.01)


def test_energy_counter_that_wraps_within_one_percent(tmp_path):
    """A RAPL counter that wraps every 0.5 J, so some ten times."""
    domain = tmp_path / "intel-rapl:0"
    domain.mkdir()
    (domain / "name").write_text("package-0\n")
    (domain / "max_energy_range_uj").write_text("499999\n")

    def write(t: float, _watts: float) -> float:
        put(domain / "energy_uj", round(sine_joules(t) * 1e6) % 500_000)
        return sine_joules(t)

    wave = Waveform(write)
    with Recorder(RAPL(tmp_path)) as recorder:
        time.sleep(2.0)
    wave.end()
    times = recorder.trace.times
    start, end = times[5], times[-5]
    assert recorder.trace.energy(start, end) == pytest.approx(wave.at(end) - wave.at(start), rel=0.01)
    assert recorder.trace.energy(start, end) > 5 * 0.5


def test_a_step_counts_from_where_it_happens():
    """Trapezoid between samples; a window may begin and end between them."""
    trace = Trace()
    for when, watts in ((10, 2), (11, 2), (11.5, 6), (13, 6)):
        trace.add_power(when, watts)
    assert trace.energy(10, 13) == pytest.approx(2 + 2 + 9)
    assert trace.energy(12, 12.5) == pytest.approx(3)
    assert trace.power()[1] == pytest.approx([2, 4, 6])
    with pytest.raises(TritapeError, match=r"power samples must cover the time 13.100, not 10.000 to 13.000"):
        trace.energy(12, 13.1)
    with pytest.raises(ValueError, match="must rise"):
        trace.add_power(13, 1)


def test_sensor_that_disappears_is_one_line(tmp_path):
    root = hwmon(tmp_path)

    def watch() -> None:
        with Recorder(Hwmon(None, root)) as recorder:
            time.sleep(0.05)
            (root / "hwmon0" / "power1_input").unlink()
            for _ in range(100):
                time.sleep(0.01)
                recorder.check()

    with pytest.raises(TritapeError) as caught:
        watch()
    text = str(caught.value)
    assert "\n" not in text
    assert "hwmon:ina260_u14: sensor must stay readable, not vanish after" in text
    assert text.endswith("(No such file or directory); check its cable or driver and run again")


class Paced:
    """A token source with a fixed time a token that sets the fake sensor's power: 1 W idle, 5 W busy."""

    def __init__(self, path: Path, token_s: float = 0.02) -> None:
        self._path, self._token_s = path, token_s
        put(path, 1e6)

    def reset(self) -> None: ...

    def generate_tokens(self, prompt: Sequence[int], count: int) -> Iterator[int]:
        put(self._path, 5e6)
        for number in range(count):
            time.sleep(self._token_s)
            if number == count - 1:
                put(self._path, 1e6)
            yield number


def test_measure_and_energy(tmp_path):
    """Rates, joules a token and above idle of a source whose power is known; PNG and JSON. Tolerances are for a busy
    machine, on which samples are far apart; accuracy is the subject of the tests above."""
    root = hwmon(tmp_path)
    source = Paced(root / "hwmon0" / "power1_input")
    with Recorder(Hwmon(None, root), 0.002) as recorder:
        run = bench.measure(source, [1], tokens=30, generations=3, warm_up=1, idle_s=0.5, recorder=recorder)
    rates, joules = bench.throughput(run), bench.energy(run, recorder.trace)
    seconds = sum(g.tokens[-1] - g.start for g in run.generations)
    assert rates["generations"] == 3
    assert rates["tokens_per_generation"] == 30
    assert 20 < rates["tokens_per_second"] < 50
    low, high = rates["tokens_per_second_quartiles"]
    assert low <= rates["tokens_per_second"] <= high
    assert 0.02 <= rates["time_to_first_token_s"] < 0.1
    assert joules["watts_idle"] == pytest.approx(1.0, rel=0.1)
    assert joules["joules_per_token"] * 90 == pytest.approx(5 * seconds, rel=0.1)
    assert joules["joules_per_token_above_idle"] * 90 == pytest.approx(4 * seconds, rel=0.15)
    assert run.outputs == [list(range(30))] * 3
    json.dumps(rates | joules)
    bench.draw(tmp_path / "power.png", run, recorder.trace, "fake")
    assert (tmp_path / "power.png").read_bytes().startswith(b"\x89PNG")
    assert not list(tmp_path.glob("*.part"))


def test_sensor_lost_while_measuring(tmp_path):
    root = hwmon(tmp_path)
    source = Paced(root / "hwmon0" / "power1_input")

    def lose(done: int, _total: int) -> None:
        if done == 2:
            (root / "hwmon0" / "power1_input").unlink()
            (root / "hwmon0").rename(root / "gone")
            source._path = root / "gone" / "power1_input"

    with Recorder(Hwmon(None, root), 0.002) as recorder:
        run = bench.measure(source, [1], tokens=10, generations=4, warm_up=0, recorder=recorder, progress=lose)
    assert len(run.generations) == 4, "tokens a second are measured to the end"
    assert bench.throughput(run)["tokens_per_second"] > 10
    joules = bench.energy(run, recorder.trace)
    assert 1 <= joules["power_generations"] <= 2, "joules are those of the generations before"
    with pytest.raises(TritapeError, match="sensor must stay readable, not vanish after"):
        recorder.check()


def test_a_sensor_that_cannot_be_read_at_all(tmp_path):
    root = hwmon(tmp_path)
    (root / "hwmon0" / "power1_input").write_text("")
    with (
        pytest.raises(TritapeError, match="must stay readable, not vanish after 0 samples"),
        Recorder(Hwmon(None, root)),
    ):
        pytest.fail("the run must not begin")


class Failing:
    """A token source that fails in a generation."""

    def __init__(self, generation: int, error: BaseException) -> None:
        self.left, self._error = generation, error

    def reset(self) -> None:
        self.left -= 1

    def generate_tokens(self, prompt: Sequence[int], count: int) -> Iterator[int]:
        for token in range(count):
            time.sleep(0.001)
            if self.left < 0:
                raise self._error
            yield token


@pytest.mark.parametrize(
    ("error", "reason"), [(TritapeError("link must answer"), "link must answer"), (KeyboardInterrupt(), "interrupted")]
)
def test_what_was_measured_before_a_failure_is_kept(error, reason):
    run = bench.measure(Failing(3, error), [1], tokens=5, generations=9, warm_up=1)
    assert run.stopped == f"2 of 9 generations were measured: {reason}"
    assert bench.throughput(run)["generations"] == len(run.outputs) == 2
    with pytest.raises(type(error)):
        bench.measure(Failing(1, error), [1], tokens=5, generations=9, warm_up=1)


def test_tokens_that_come_all_at_once_have_no_rate():
    run = bench.Run([bench.Generation(1.0, [2.0, 2.0, 2.0])], (0.0, 0.0), [[1, 2, 3]])
    assert bench.throughput(run)["tokens_per_second"] is None
    json.dumps(bench.throughput(run), allow_nan=False)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"tokens": 1}, "tokens must be at least 2, not 1"),
        ({"generations": 0}, "generations must be at least 1, not 0"),
        ({"warm_up": -1}, "warm-up must be at least 0, not -1"),
    ],
)
def test_wrong_numbers(tmp_path, arguments, message):
    with pytest.raises(TritapeError, match=message):
        bench.measure(Paced(tmp_path / "x"), [1], **arguments)
    with pytest.raises(TritapeError, match="prompt must have at least one token"):
        bench.measure(Paced(tmp_path / "x"), [])


def test_a_source_that_stops_early(tmp_path):
    class Short:
        def reset(self) -> None: ...

        def generate_tokens(self, prompt: Sequence[int], count: int) -> Iterator[int]:
            return iter([1, 2])

    with pytest.raises(TritapeError, match="device must send 8 tokens, not 2; reset it"):
        bench.measure(Short(), [1], tokens=8)


def test_quartiles():
    assert bench.quartiles([4.0]) == (4.0, 4.0, 4.0)
    assert bench.quartiles([1.0, 2.0, 3.0, 4.0, 5.0]) == (2.0, 3.0, 4.0)
