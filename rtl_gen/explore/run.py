"""All points of a space on Dask: by the cycle model, then the best of the front by synthesis and routing."""

from __future__ import annotations

import logging
import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass, field
from functools import cache
from typing import TYPE_CHECKING, Any

from tritape.base.errors import TritapeError
from tritape.base.extras import extra
from tritape.rtl_gen.explore.evaluate import SOURCES, evaluate
from tritape.rtl_gen.explore.results import ResultFile, key
from tritape.rtl_gen.explore.space import Point, Space
from tritape.rtl_gen.parts import part

if TYPE_CHECKING:
    from distributed import Client

PATIENCE_S = 10
"""For a scheduler to answer."""
DEATHS = 5
"""Workers that may die over a task before it counts as failed: an interrupted machine is not the task's fault."""

Progress = Callable[[str, int, int], None]
"""(stage, done, total)."""


@dataclass
class Explored:
    """`rows`: a point with its numbers each, in the order of the space; `front`: the rows that no other beats, part by part,
    fastest first; `failures`: what a tool said. `computed`: results that were not in the file before."""

    rows: list[dict[str, Any]]
    front: list[dict[str, Any]]
    computed: int = 0
    failures: list[str] = field(default_factory=list)


def explore(
    space: Space,
    results: ResultFile,
    connect: Callable[[], AbstractContextManager[Client]],
    *,
    synthesise: int = 0,
    route: int = 0,
    progress: Progress = lambda stage, done, total: None,
) -> Explored:
    """Estimate every point, then synthesise and route so many of the front, the fastest of each part first; routing is for ECP5.

    results: an open file; what it has is not computed again, and a new result goes there as it comes. connect: gives a client, as
    `cluster` does; it is not called where there is nothing to compute. A row is the point with
    what `evaluate` says, and where they were asked for, `synthesised` and `routed` of the same kind. A worker that dies loses
    nothing: Dask gives its task to another.
    """
    before = len(results.results)
    with ExitStack() as stack:
        client = cache(lambda: stack.enter_context(connect()))
        failures = _compute("estimate", space.points, results, client, progress)
        rows = [
            {**point, **results.results[name]}
            for point in space.points
            if (name := key("estimate", point, SOURCES)) in results.results
        ]
        made = pareto(rows)
        for stage, count, kind in (("synthesise", synthesise, "synthesised"), ("route", route, "routed")):
            best = _best(made, count, routed=stage == "route")
            points = [{name: row[name] for name in space.points[0]} for row in best]
            failures += _compute(stage, points, results, client, progress)
            for row, point in zip(best, points, strict=True):
                found = results.results.get(key(stage, point, SOURCES))
                if found is not None:
                    row[kind] = found
    return Explored(rows, made, len(results.results) - before, failures)


def pareto(rows: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Of each part, the rows that fit and that no other of it beats in tokens a second and LUTs, fastest first."""
    front = []
    for name in dict.fromkeys(row["part"] for row in rows):
        fewest = float("inf")
        fitting = [row for row in rows if row["part"] == name and row["fits"]]
        for row in sorted(fitting, key=lambda row: (-row["tokens_per_second"], row["luts"], row["brams"])):
            if row["luts"] < fewest:
                front.append(row)
                fewest = row["luts"]
    return front


def _best(front: Sequence[dict[str, Any]], count: int, routed: bool) -> list[dict[str, Any]]:
    """The first `count` rows of each part."""
    best = []
    for name in dict.fromkeys(row["part"] for row in front):
        if not routed or part(name).family == "ecp5":
            best += [row for row in front if row["part"] == name][:count]
    return best


def _compute(
    stage: str, points: Sequence[Point], results: ResultFile, connect: Callable[[], Client], progress: Progress
) -> list[str]:
    """Results of the points that have none; returns what failed."""
    from distributed import as_completed

    todo = [point for point in points if key(stage, point, SOURCES) not in results.results]
    failures: list[str] = []
    done = len(points) - len(todo)
    progress(stage, done, len(points))
    if not todo:
        return failures
    client = connect()
    futures = client.map(evaluate, [stage] * len(todo), todo, [SOURCES] * len(todo), pure=False)
    of = {future.key: point for future, point in zip(futures, todo, strict=True)}
    try:
        for future in as_completed(futures, loop=client.loop):
            point = of[future.key]
            error = future.exception()  # waits, should the worker that held the result have died meanwhile
            if error is None:
                results.add(stage, point, SOURCES, future.result())
            else:
                failures.append(f"{stage} E={point['engines']} G={point['groups']}: {error}")
            done += 1
            progress(stage, done, len(points))
            future.release()
    finally:
        client.cancel(futures)
    return failures


@contextmanager
def cluster(scheduler: str | None = None, workers: int | None = None) -> Iterator[Client]:
    """A Dask client: of the scheduler at this address, else of a cluster of `workers` processes here (default: one a core).

    Raises `TritapeError` without Dask, or when the scheduler does not answer.
    """
    with extra("explore", "dask"):
        import dask
        from distributed import Client, LocalCluster
    if scheduler is not None:
        try:
            client = Client(scheduler, timeout=f"{PATIENCE_S}s", set_as_default=False)
        except (OSError, ValueError) as error:
            raise TritapeError(
                f"scheduler must answer at {scheduler!r}, not fail ({error}); start one with: dask scheduler"
            ) from None
        with client:
            yield client
        return
    with dask.config.set({"distributed.scheduler.allowed-failures": DEATHS}):
        with _without_interrupts():
            local = LocalCluster(
                n_workers=workers, threads_per_worker=1, dashboard_address=None, silence_logs=logging.CRITICAL
            )
        with local, Client(local, set_as_default=False) as client:
            yield client


@contextmanager
def _without_interrupts() -> Iterator[None]:
    """Processes that start here leave Ctrl-C to this one, which ends them."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
