"""Design spaces: what a file may say, results that survive interrupts and dead workers, the front, the command."""

from __future__ import annotations

import json
import os
import signal
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import pytest
from distributed import Client
from typer.testing import CliRunner

from tritape.base.errors import TritapeError
from tritape.cli import app, register
from tritape.cli.estimate import model_shape
from tritape.model.data import default_model_path
from tritape.rtl_gen.explore.evaluate import SOURCES, evaluate
from tritape.rtl_gen.explore.results import ResultFile, key
from tritape.rtl_gen.explore.run import cluster, explore, pareto
from tritape.rtl_gen.explore.space import Space, read_space

EXAMPLE = Path(__file__).parents[1] / "docs" / "examples" / "kv260-370m.toml"
TEXT = f"""
model = {str(default_model_path())!r}
bandwidth = 1e9
[space]
engines = [1, 2]
groups = {{ from = 8, to = 24, step = 4 }}
tables_per_filler = [1, 2]
clock = [50e6, 80e6]
part = ["ecp5-25", "xck26"]
"""
register()


def threads() -> AbstractContextManager[Client]:
    """A cluster without processes: quick to start."""
    return Client(processes=False, n_workers=1, threads_per_worker=1, dashboard_address=None, set_as_default=False)


@pytest.fixture
def space(tmp_path: Path) -> Space:
    path = tmp_path / "space.toml"
    path.write_text(TEXT)
    return read_space(path, model_shape)


def lines(path: Path) -> list[dict[str, Any]]:
    text = path.read_text()
    assert text.endswith("\n")
    return [json.loads(line) for line in text.splitlines()]


def test_points_of_a_space(space: Space) -> None:
    assert len(space.points) == 2 * 5 * 2 * 2 * 2
    assert space.skipped == 0
    first = space.points[0]
    assert (first["engines"], first["groups"], first["batch"], first["clock"]) == (1, 8, 1, 50e6)
    assert first["shape"]["hidden_size"] == model_shape(str(default_model_path())).hidden_size
    assert first["read_ahead"] is None


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("bandwidth", "bandwith", "entry must be one of model, bandwidth, .*, not 'bandwith'"),
        ("bandwidth = 1e9", "", "bandwidth must be given, not missing"),
        ("bandwidth = 1e9", "bandwidth = 0", "bandwidth must be above 0, not 0"),
        ("bandwidth = 1e9", "bandwidth = 1e9\nlatency = -1", "latency must be 0 or more, not -1"),
        ("engines =", "engine =", "axis of space must be one of engines, .*, not 'engine'"),
        ("[1, 2]\ngroups", "[0]\ngroups", "space.engines must be integers of at least 1, not 0"),
        ("[1, 2]\ngroups", "[]\ngroups", "space.engines must have a value, not none"),
        (
            "{ from = 8, to = 24, step = 4 }",
            "{ from = 8 }",
            "space.groups must be {from, to, step} of positive integers",
        ),
        ("{ from = 8, to = 24, step = 4 }", "2", "space must have a point that can be built, not none"),
        ("[50e6, 80e6]", "-1", "space.clock must be Hz above 0, not -1"),
        ("clock = [50e6, 80e6]", "", "space.clock must be given, not missing"),
        ("xck26", "xck27", "part must be one of ecp5-25, .*, not 'xck27'"),
        ("[space]", "[space", "file must be TOML, not damaged text"),
        ("step = 4", "step = 4 }\nbatch = { from = 1, to = 65536", "space must have at most 100000 points"),
    ],
)
def test_what_a_space_cannot_say(tmp_path: Path, old: str, new: str, message: str) -> None:
    path = tmp_path / "space.toml"
    assert old in TEXT
    path.write_text(TEXT.replace(old, new, 1))
    with pytest.raises(TritapeError, match=message):
        read_space(path, model_shape)


def test_combinations_that_cannot_be_built_are_counted(tmp_path: Path) -> None:
    """G = 10 is no multiple of 3 or 4; with E = 2 a filler has at most 5 tables."""
    path = tmp_path / "space.toml"
    path.write_text(
        'model = "370m"\nbandwidth = 1e9\n[space]\nengines = [1, 2, 3, 4]\ngroups = 10\ntables_per_filler = [1, 6]\n'
        'clock = 1e8\npart = "xck26"\n'
    )
    read = read_space(path, model_shape)
    assert [(point["engines"], point["tables_per_filler"]) for point in read.points] == [(1, 1), (1, 6), (2, 1)]
    assert read.skipped == 5


def test_front() -> None:
    """Less of one costs more of the other, part by part; what does not fit is not on it."""

    def row(part: str, rate: float, luts: int, fits: bool = True) -> dict[str, Any]:
        return {"part": part, "tokens_per_second": rate, "luts": luts, "brams": 1, "fits": fits}

    rows = [
        row("a", 5, 50),
        row("a", 9, 90),
        row("a", 4, 60),
        row("a", 9, 95),
        row("a", 10, 10, False),
        row("b", 1, 99),
    ]
    assert pareto(rows) == [rows[1], rows[0], rows[5]]


def test_a_run_goes_on_where_it_was_interrupted(space: Space, tmp_path: Path) -> None:
    path = tmp_path / "results.jsonl"

    def interrupt(stage: str, done: int, total: int) -> None:
        if done == 7:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt), ResultFile(path) as results:
        explore(space, results, threads, progress=interrupt)
    assert len(lines(path)) == 7
    with path.open("a") as stream:  # a line that a lost disk cut short
        stream.write('{"key": "ab')
    with ResultFile(path) as results:
        found = explore(space, results, threads)
    assert found.computed == len(space.points) - 7
    assert len(lines(path)) == len(found.rows) == len(space.points)
    with ResultFile(path) as results:
        again = explore(space, results, lambda: pytest.fail("nothing is left to compute"))
    assert again.computed == 0
    assert again.front == found.front != []


def test_a_killed_worker_loses_no_result(space: Space, tmp_path: Path) -> None:
    """Two processes; one is killed when everything is computed and little of it fetched: what it held is computed again."""
    killed: list[int] = []

    def wait_until(condition: Callable[[], bool]) -> None:
        end = time.monotonic() + 60
        while not condition():
            assert time.monotonic() < end
            time.sleep(0.01)

    with cluster(workers=2) as client:
        processes = list(client.run(os.getpid).values())

        def kill(stage: str, done: int, total: int) -> None:
            if done == 3 and not killed:
                wait_until(lambda: all(state.status == "finished" for state in list(client.futures.values())))
                killed.append(processes[0])
                os.kill(processes[0], signal.SIGKILL)
                wait_until(lambda: any(state.status != "finished" for state in list(client.futures.values())))

        class Connected(AbstractContextManager[Client]):
            def __enter__(self) -> Client:
                return client

            def __exit__(self, *_: object) -> None:
                pass

        with ResultFile(tmp_path / "results.jsonl") as results:
            found = explore(space, results, Connected, progress=kill)
        assert killed
        client.wait_for_workers(2, timeout=60)
        assert killed[0] not in client.run(os.getpid).values()
    assert found.failures == []
    assert len(found.rows) == len(lines(tmp_path / "results.jsonl")) == len(space.points)
    expected = evaluate("estimate", space.points[5], SOURCES)
    assert found.rows[5] == space.points[5] | expected


def test_results_are_of_one_run_at_a_time(tmp_path: Path) -> None:
    path = tmp_path / "results.jsonl"
    with (
        ResultFile(path),
        pytest.raises(TritapeError, match="results must be of one run at a time, not two"),
        ResultFile(path),
    ):
        pass
    path.write_text("ulx3s\n")
    with (
        pytest.raises(TritapeError, match="line 1 must be a result of tritape explore, not b'ulx3s'"),
        ResultFile(path),
    ):
        pass


def test_results_of_other_sources_are_computed_again(space: Space) -> None:
    point = space.points[0]
    assert key("estimate", point, SOURCES) != key("estimate", point, "other")
    assert key("estimate", point, SOURCES) != key("route", point, SOURCES)
    assert key("estimate", point, SOURCES) != key("estimate", point | {"groups": 9}, SOURCES)
    with pytest.raises(TritapeError, match="tritape of the worker must be the one that explores"):
        evaluate("estimate", point, "other")


def test_synthesis_of_the_front(space: Space, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The fastest of each part are synthesised, those of ECP5 routed; a tool that fails is told and tried again."""
    log = tmp_path / "asked"  # tasks are pickled, even for threads

    def asked() -> list[str]:
        found = sorted(log.read_text().splitlines())
        log.unlink()
        return found

    def fake(stage: str, point: dict[str, Any], sources: str) -> dict[str, Any]:
        if stage == "estimate":
            return evaluate(stage, point, sources)
        with log.open("a") as stream:
            stream.write(f"{stage} {point['part']}\n")
        if stage == "route":
            raise TritapeError("nextpnr must succeed, not fail")
        return {"luts": 123, "ffs": 1, "brams": 2, "dsps": 3}

    monkeypatch.setattr("tritape.rtl_gen.explore.run.evaluate", fake)
    path = tmp_path / "results.jsonl"
    with ResultFile(path) as results:
        found = explore(space, results, threads, synthesise=2, route=1)
    assert asked() == ["route ecp5-25", *["synthesise ecp5-25"] * 2, *["synthesise xck26"] * 2]
    assert [("synthesised" in row, "routed" in row) for row in found.front[:3]] == [(True, False)] * 2 + [
        (False, False)
    ]
    assert found.front[0]["synthesised"]["luts"] == 123
    assert len(found.failures) == 1
    assert "nextpnr must succeed" in found.failures[0]
    with ResultFile(path) as results:
        explore(space, results, threads, synthesise=2, route=1)
    assert asked() == ["route ecp5-25"]


def test_command_on_the_example(tmp_path: Path) -> None:
    """docs/examples/kv260-370m.toml with fewer values: table, plot and JSON."""
    text = EXAMPLE.read_text()
    for old, new in (("[1, 2, 4, 5, 8]", "[4, 5]"), ("{ from = 8, to = 64 }", "[15, 16]"), ("[1, 2]", "1")):
        assert old in text
        text = text.replace(old, new)
    path, plot, out = tmp_path / "small.toml", tmp_path / "plot.svg", tmp_path / "out.json"
    path.write_text(text)
    command = ["explore", str(path), "--workers", "1", "--plot", str(plot), "--json", str(out)]
    result = CliRunner().invoke(app, command)
    assert result.exit_code == 0, result.output
    assert "2 points, 2 results new" in result.output
    assert "2 combinations cannot be built" in result.output
    assert plot.read_text().startswith("<?xml")
    assert len(lines(tmp_path / "small.results.jsonl")) == 2
    value = json.loads(out.read_text())
    assert [row["engines"] for row in value["front"]] == [4]  # 5 x 15 is larger, and wider than a line of the memory
    assert value["front"][0]["roofline_fraction"] > 0.94
    with pytest.raises(TritapeError, match=r"plot must be a \.png or \.svg file, not '.pdf'"):
        raise CliRunner().invoke(app, ["explore", str(path), "--plot", "x.pdf"]).exception  # type: ignore[misc]
    with pytest.raises(TritapeError, match="synthesise must be 0 or more, not -1"):
        raise CliRunner().invoke(app, ["explore", str(path), "--synthesise", "-1"]).exception  # type: ignore[misc]


def test_space_of_an_embedded_model(tmp_path: Path) -> None:
    """docs/examples/base-ecp5-ddr3.toml, as docs/explore.md shows it: the model by its name, limited by the memory."""
    out = tmp_path / "out.json"
    example = EXAMPLE.with_name("base-ecp5-ddr3.toml")
    command = ["explore", str(example), "--workers", "1", "--json", str(out), "-o", str(tmp_path / "results.jsonl")]
    assert CliRunner().invoke(app, command).exit_code == 0
    best = json.loads(out.read_text())["front"][0]
    assert (best["groups"], best["limited_by"]) == (8, "memory")
    assert best["roofline_fraction"] > 0.95


def test_a_scheduler_that_is_not_there(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tritape.rtl_gen.explore.run.PATIENCE_S", 1)
    with (
        pytest.raises(TritapeError, match=r"scheduler must answer at 'tcp://127.0.0.1:9'"),
        cluster("tcp://127.0.0.1:9"),
    ):
        pass
