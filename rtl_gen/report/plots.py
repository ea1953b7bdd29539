"""Plots of the report as SVG text: one function a plot, each from plain numbers."""

from __future__ import annotations

import io
import itertools
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tritape.base.extras import extra
from tritape.base.files import replacing

if TYPE_CHECKING:
    from matplotlib.figure import Figure

MARKERS = {"measured": "o", "simulated": "^", "routed": "s", "synthesised": "D", "projected": "P", "published": "x"}
COLOURS = ("#2b6cb0", "#c05621", "#2f855a", "#805ad5", "#b83280", "#4a5568", "#b7791f", "#2c7a7b", "#9b2c2c", "#718096")
WIDTH = 9.0  # inches
BINS = 300
LABEL_HEIGHT = 9  # points from one label to the next
LABEL_STEPS = 240  # places that are tried for a label
SPARE = 0.06  # a reader's font may be so much wider, on each side


def roofline(points: Sequence[tuple[str, float, float, str]], weights: Mapping[str, int]) -> str:
    """Tokens a second against bytes a second, both logarithmic. points: (label, bandwidth, tokens a second, kind);
    weights: ternary weights a token by name of a shape, each a line of bandwidth * 5 / weights."""
    return _svg(roofline_figure(points, weights), "roofline")


def roofline_figure(points: Sequence[tuple[str, float, float, str]], weights: Mapping[str, int]) -> Figure:
    """The same before it is text. No label lies on another, or on a point."""
    figure, axes = _figure(6.5)
    low = min(p[1] for p in points) / 2
    high = max(p[1] for p in points) * 3
    ordered = sorted(points, key=lambda p: -p[2])
    for _, bandwidth, rate, kind in ordered:
        axes.plot([bandwidth], [rate], MARKERS[kind], color=_point_colour(kind), markersize=6)
    names = []
    for colour, (name, count) in zip(COLOURS[::-1], weights.items(), strict=False):
        axes.plot([low, high], [low * 5 / count, high * 5 / count], color=colour, linewidth=1)
        start = (low, low * 5 / count)
        style = {"color": colour, "fontsize": 8, "ha": "right", "va": "center"}
        names.append(axes.annotate(name, start, xytext=(-3, 0), textcoords="offset points", **style))
    axes.set(
        xscale="log", yscale="log", xlabel="memory, bytes a second", ylabel="tokens a second", xlim=(low / 4, high)
    )
    _legend(axes, sorted({p[3] for p in points}))
    _label(figure, axes, ordered, names)
    return figure


def _point_colour(kind: str) -> str:
    return "#4a5568" if kind == "published" else COLOURS[0]


def _label(figure: Figure, axes: Any, points: Sequence[tuple[str, float, float, str]], taken: Sequence[Any]) -> None:
    """Write each point's label at the nearest place beside it that is free: ours on the left if that can be, others on the right.
    `taken`: texts that stand already. The axes stay as they are: places outside are not free."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.transforms import Bbox

    renderer = FigureCanvasAgg(figure).get_renderer()
    figure.draw_without_rendering()
    point = figure.dpi / 72
    marks = [axes.transData.transform((bandwidth, rate)) for _, bandwidth, rate, _ in points]
    full = [Bbox.from_extents(x - 4 * point, y - 4 * point, x + 4 * point, y + 4 * point) for x, y in marks]
    full += [label_box(text, renderer) for text in taken] + [axes.get_legend().get_window_extent(renderer)]
    for label, bandwidth, rate, kind in points:
        side = 1 if kind == "published" else -1
        for step in range(LABEL_STEPS):
            # beside the point, below, above, further below and so on; then the same on the other side
            rise = LABEL_HEIGHT * ((step // 4 + 1) // 2) * (-1 if step // 4 % 2 else 1)
            away = 14 + 22 * (step // 2 % 2)
            way = side if step % 2 == 0 else -side
            text = axes.annotate(
                label, (bandwidth, rate), xytext=(way * away, rise), textcoords="offset points", fontsize=7,
                ha="left" if way > 0 else "right", va="center", color=_point_colour(kind),
                arrowprops={"arrowstyle": "-", "linewidth": 0.5, "color": "#a0aec0", "shrinkA": 0, "shrinkB": 3},
            )  # fmt: skip
            box = label_box(text, renderer)
            wide = Bbox.from_extents(box.x0 - box.width * SPARE, box.y0, box.x1 + box.width * SPARE, box.y1)
            inside = axes.bbox.contains(wide.x0, wide.y0) and axes.bbox.contains(wide.x1, wide.y1)
            if (inside and not any(wide.overlaps(other) for other in full)) or step == LABEL_STEPS - 1:
                full.append(wide)
                break
            text.remove()


def label_box(text: Any, renderer: Any) -> Any:
    """Where the letters of an annotation are, in pixels, without its line."""
    from matplotlib.text import Text

    text.update_positions(renderer)
    return Text.get_window_extent(text, renderer)


def stacked(bars: Mapping[str, Mapping[str, float]], unit: str) -> str:
    """Horizontal bars of parts, in order; the same part has the same colour in every bar."""
    parts = list(dict.fromkeys(part for bar in bars.values() for part in bar))
    figure, axes = _figure(1.2 + 0.45 * len(bars))
    starts = dict.fromkeys(bars, 0.0)
    for number, part in enumerate(parts):
        widths = [bar.get(part, 0.0) for bar in bars.values()]
        colour = COLOURS[number % len(COLOURS)]
        hatch = "///" if number >= len(COLOURS) else None
        axes.barh(list(bars), widths, left=list(starts.values()), label=part, color=colour, hatch=hatch, height=0.7)
        starts = {name: starts[name] + width for name, width in zip(bars, widths, strict=True)}
    axes.invert_yaxis()
    axes.set_xlabel(unit)
    axes.legend(fontsize=7, ncols=2, loc="center left", bbox_to_anchor=(1.0, 0.5), frameon=False)
    return _svg(figure, f"stacked {unit}")


def utilisation(sections: Sequence[tuple[str, float, float, int]], word_cycles: float) -> str:
    """Share of the memory's rate that is used, over a token. sections: (name, start, end, words), cycles; a word takes
    `word_cycles`."""
    spans = [("cycle of the token", list(sections))]
    layer = [number for number, s in enumerate(sections) if s[0].startswith("layers.1.")]
    if layer:
        spans.append(("cycle of the token: layer 1", list(sections[layer[0] : layer[-1] + 1])))
    figure, _ = _figure(2.2 * len(spans), len(spans))
    for axes, (label, some) in zip(figure.axes, spans, strict=True):
        start, end = some[0][1], some[-1][2]
        shares = busy_shares([(n, a - start, b - start, w) for n, a, b, w in some], word_cycles, BINS)
        edges = [start + (end - start) * i / BINS for i in range(BINS + 1)]
        axes.stairs(shares, edges, fill=True, color=COLOURS[0])
        axes.set(ylim=(0, 1.05), xlim=(start, end), xlabel=label, ylabel="memory busy")
        axes.xaxis.set_major_formatter(lambda value, position: f"{value:,.0f}")
    return _svg(figure, f"utilisation {sections[-1][2]} {len(sections)}")


def busy_shares(sections: Sequence[tuple[str, float, float, int]], word_cycles: float, bins: int) -> list[float]:
    """The mean share of the memory's rate in each of `bins` equal spans of the token; each section's words are spread
    evenly over its time."""
    width = max(s[2] for s in sections) / bins
    busy = [0.0] * bins
    for _, start, end, words in sections:
        if end <= start:
            continue
        share = words * word_cycles / (end - start)
        for index in range(int(start / width), min(int(end / width), bins - 1) + 1):
            overlap = min(end, (index + 1) * width) - max(start, index * width)
            busy[index] += share * max(overlap, 0.0) / width
    return busy


def bars(values: Mapping[str, float], unit: str, percent: bool = False) -> str:
    """Horizontal bars with their values."""
    figure, axes = _figure(0.9 + 0.35 * len(values))
    drawn = axes.barh(list(values), list(values.values()), color=COLOURS[0], height=0.65)
    axes.bar_label(drawn, [f"{v:.1%}" if percent else f"{v:,.0f}" for v in values.values()], padding=3, fontsize=8)
    axes.margins(x=0.12)
    axes.invert_yaxis()
    axes.set_xlabel(unit)
    if percent:
        axes.xaxis.set_major_formatter(lambda value, position: f"{value:.1%}")
    return _svg(figure, f"bars {unit}")


def space(rows: Sequence[Mapping[str, Any]], front: Sequence[Mapping[str, Any]]) -> str:
    """Tokens a second against LUTs of a design space: `points` and `front` of `tritape explore --json`."""
    return _svg(_space(rows, front), f"space {len(rows)}")


def write_space(rows: Sequence[Mapping[str, Any]], front: Sequence[Mapping[str, Any]], path: Path) -> None:
    """The same as a .png or .svg file, which appears whole or not at all."""
    with replacing(path) as stream:
        _space(rows, front).savefig(stream, format=path.suffix[1:], dpi=150)


def _space(rows: Sequence[Mapping[str, Any]], front: Sequence[Mapping[str, Any]]) -> Figure:
    figure, axes = _figure(4.5)
    for colour, name in zip(itertools.cycle(COLOURS), dict.fromkeys(row["part"] for row in rows)):
        for fits, marker, alpha in ((True, "o", 0.35), (False, "x", 0.25)):
            some = [row for row in rows if row["part"] == name and row["fits"] == fits]
            label = f"{name}: projected" if fits else f"{name}: does not fit"
            if some:
                axes.plot(
                    [row["luts"] for row in some], [row["tokens_per_second"] for row in some], marker, color=colour, alpha=alpha,
                    markersize=3, label=label,
                )  # fmt: skip
        best = [row for row in front if row["part"] == name]
        axes.step(
            [row["luts"] for row in best],
            [row["tokens_per_second"] for row in best],
            color=colour,
            linewidth=1,
            where="pre",
        )
        for kind in ("synthesised", "routed"):
            made = [row for row in best if kind in row]
            if made:
                axes.plot(
                    [row[kind]["luts"] for row in made], [row["tokens_per_second"] for row in made], MARKERS[kind], color=colour,
                    label=f"{name}: LUTs {kind}",
                )  # fmt: skip
    axes.set(xlabel="LUTs of the part's kind", ylabel="tokens a second (projected)")
    axes.xaxis.set_major_formatter(lambda value, position: f"{value:,.0f}")
    axes.legend(fontsize=7, frameon=False)
    return figure


def _figure(height: float, rows: int = 1) -> tuple[Figure, Any]:
    """A figure with its axes, or an array of them from top to bottom."""
    with extra("plots", "matplotlib"):
        from matplotlib.figure import Figure

    figure = Figure(figsize=(WIDTH, height), layout="constrained")
    axes = figure.subplots(rows)
    for each in figure.axes:
        each.spines[["top", "right"]].set_visible(False)
        each.tick_params(labelsize=8)
    return figure, axes


def _legend(axes: Any, kinds: Sequence[str]) -> None:
    for kind in kinds:
        axes.plot([], [], MARKERS[kind], color="#4a5568" if kind == "published" else COLOURS[0], label=kind)
    axes.legend(fontsize=8, loc="lower right", frameon=False)


def _svg(figure: Figure, salt: str) -> str:
    """The figure as an element to put into HTML; equal figures give equal text."""
    import matplotlib

    stream = io.StringIO()
    with matplotlib.rc_context({"svg.hashsalt": salt, "svg.fonttype": "none", "font.family": "sans-serif"}):
        figure.savefig(stream, format="svg", metadata={"Date": None, "Creator": None})
    text = stream.getvalue()
    text = re.sub(r"<metadata>.*?</metadata>", "", text, flags=re.DOTALL)
    return text[text.index("<svg") :]
