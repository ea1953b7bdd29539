"""Throughput and energy of text generation: the same measurement for a board, a simulation and the host's CPU."""

from __future__ import annotations

import math
import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from tritape.base.errors import TritapeError
from tritape.base.extras import extra
from tritape.base.files import replacing
from tritape.host.energy import Recorder
from tritape.host.power.trace import Trace

SETTLE_S = 0.1
"""Wait between the warm-up and the idle measurement, for sensors that average."""


class TokenSource(Protocol):
    """What is measured: `tritape.host.device.Device`, `tritape.host.cpu.CPUModel`."""

    def reset(self) -> None:
        """The next token starts a sequence."""

    def generate_tokens(self, prompt: Sequence[int], count: int) -> Iterator[int]:
        """Run the prompt and yield `count` tokens as they come."""


@dataclass(frozen=True)
class Generation:
    """One timed generation: Unix times of the start (prompt sent) and of the arrival of each token."""

    start: float
    tokens: list[float]

    @property
    def first_token_s(self) -> float:
        """From the start to the first token: the prompt and one token."""
        return self.tokens[0] - self.start

    @property
    def tokens_per_second(self) -> float:
        """Tokens after the first over the time from the first to the last; not a number where they came all at once."""
        seconds = self.tokens[-1] - self.tokens[0]
        return (len(self.tokens) - 1) / seconds if seconds > 0 else math.nan


@dataclass(frozen=True)
class Run:
    """What `measure` saw: the generations, the idle time before them, every generation's tokens, and why there are fewer of them
    than were asked for (None if there are not)."""

    generations: list[Generation]
    idle: tuple[float, float]
    outputs: list[list[int]]
    stopped: str | None = None

    @property
    def end(self) -> float:
        """When the last token came."""
        return self.generations[-1].tokens[-1]


def measure(
    source: TokenSource,
    prompt: Sequence[int],
    *,
    tokens: int = 128,
    generations: int = 5,
    warm_up: int = 1,
    idle_s: float = 0.0,
    recorder: Recorder | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Run:
    """Idle for `idle_s`, run `warm_up` generations that do not count, then `generations` of `tokens` tokens each.

    An error or an interrupt behind a generation that counts ends the run, which keeps what was measured and says so in
    `stopped`. Raises TritapeError when the source fails before, or a number is out of range.
    """
    for name, value, least in (("tokens", tokens, 2), ("generations", generations, 1), ("warm-up", warm_up, 0)):
        if value < least:
            raise TritapeError(f"{name} must be at least {least}, not {value}; ask for more")
    if not prompt:
        raise TritapeError("prompt must have at least one token, not none; give some text")
    zero = time.time() - time.monotonic()
    now = recorder.now if recorder else lambda: time.monotonic() + zero
    total = warm_up + generations
    timed: list[Generation] = []
    outputs: list[list[int]] = []
    idle = (now(), now())
    stopped = None
    try:
        for number in range(total):
            if number == warm_up and idle_s > 0:  # after the warm-up, when clocks and caches are as in the run
                time.sleep(SETTLE_S)
                start = now()
                time.sleep(idle_s)
                idle = (start, now())
            source.reset()
            start = now()
            ids, times = [], []
            for token in source.generate_tokens(prompt, tokens):
                times.append(now())
                ids.append(token)
            if len(ids) != tokens:
                raise TritapeError(f"device must send {tokens} tokens, not {len(ids)}; reset it and run again")
            if number >= warm_up:
                timed.append(Generation(start, times))
                outputs.append(ids)
            if progress is not None:
                progress(number + 1, total)
    except (TritapeError, OSError, KeyboardInterrupt) as error:
        if not timed:
            raise
        stopped = f"{len(timed)} of {generations} generations were measured: {str(error) or 'interrupted'}"
    return Run(timed, idle, outputs, stopped)


def throughput(run: Run) -> dict[str, Any]:
    """JSON-ready rates: median and quartiles over the generations."""
    rates = [rate for generation in run.generations if math.isfinite(rate := generation.tokens_per_second)]
    first = [generation.first_token_s for generation in run.generations]
    low, median, high = quartiles(rates) if rates else (None, None, None)
    return {
        "generations": len(run.generations),
        "tokens_per_generation": len(run.generations[0].tokens),
        "tokens_per_second": median,
        "tokens_per_second_quartiles": [low, high],
        "time_to_first_token_s": statistics.median(first),
    }


def energy(run: Run, trace: Trace) -> dict[str, Any]:
    """JSON-ready joules a token, prompt's energy included: total, and above the mean power of the idle time.

    Only generations that the samples cover count; `power_generations` says how many. Raises TritapeError when there are none.
    """
    covered = [one for one in run.generations if trace.covers(one.start) and trace.covers(one.tokens[-1])]
    if not covered:
        trace.energy(run.generations[0].start, run.end)  # raises, and says what is missing
    joules = sum(trace.energy(one.start, one.tokens[-1]) for one in covered)
    seconds = sum(one.tokens[-1] - one.start for one in covered)
    tokens = sum(len(one.tokens) for one in covered)
    start, end = run.idle
    idle_watts = trace.energy(start, end) / (end - start) if end > start and trace.covers(start) else None
    return {
        "joules_per_token": joules / tokens,
        "joules_per_token_above_idle": None if idle_watts is None else (joules - idle_watts * seconds) / tokens,
        "watts": joules / seconds if seconds > 0 else None,
        "watts_idle": idle_watts,
        "power_samples": len(trace),
        "power_generations": len(covered),
    }


def quartiles(values: Sequence[float]) -> tuple[float, float, float]:
    """Lower quartile, median, upper quartile (inclusive method); of one value, three times that value."""
    if len(values) == 1:
        return values[0], values[0], values[0]
    low, median, high = statistics.quantiles(values, n=4, method="inclusive")
    return low, median, high


def draw(path: Path, run: Run, trace: Trace, title: str) -> None:
    """PNG of power over time: idle and generations shaded, every token a tick. Raises TritapeError without a folder."""
    with extra("plots", "matplotlib"):
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure

    zero = trace.times[0]
    figure = Figure(figsize=(10, 4), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    middles, watts = trace.power()
    axes.plot([t - zero for t in middles], watts, linewidth=0.8, color="tab:blue", label="power")
    if run.idle[1] > run.idle[0]:
        axes.axvspan(run.idle[0] - zero, run.idle[1] - zero, color="tab:gray", alpha=0.2, label="idle")
    for number, generation in enumerate(run.generations):
        span = (generation.start - zero, generation.tokens[-1] - zero)
        axes.axvspan(*span, color="tab:green", alpha=0.15, label=None if number else "generation")
    marks = [t - zero for generation in run.generations for t in generation.tokens]
    axes.eventplot([marks], lineoffsets=0.02, linelengths=0.04, linewidths=0.4, colors="tab:red")
    axes.collections[-1].set_transform(axes.get_xaxis_transform())
    axes.collections[-1].set_label("tokens")
    axes.set(xlabel="s", ylabel="W", title=title, ylim=(0, 1.1 * max(watts, default=1.0) or 1.0))
    axes.legend(loc="upper right", ncols=4)
    with replacing(path) as stream:
        figure.savefig(stream, format="png", dpi=120)
