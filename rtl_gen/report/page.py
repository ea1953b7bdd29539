"""The page: a section a plot, each with the table of its numbers, where they come from and how they came about."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from html import escape

from tritape.model.tape.layout import ternary_weights
from tritape.rtl_gen.estimate import PUBLISHED
from tritape.rtl_gen.report import plots
from tritape.rtl_gen.report.measurements import Measurements, area_kind, rate_points

STYLE = """
:root { color-scheme: light; }
body { font: 15px/1.5 system-ui, sans-serif; color: #1a202c; background: #fff; max-width: 62rem; margin: 2rem auto;
  padding: 0 1rem; }
h1 { font-size: 1.6rem; margin-bottom: 0; } h2 { font-size: 1.2rem; margin-top: 2.5rem; border-bottom: 1px solid #cbd5e0; }
svg { max-width: 100%; height: auto; } .table { overflow-x: auto; }
table { border-collapse: collapse; font-size: .85rem; margin: .5rem 0; }
th, td { text-align: left; padding: .15rem .8rem .15rem 0; border-bottom: 1px solid #edf2f7; vertical-align: top; }
td.number { text-align: right; font-variant-numeric: tabular-nums; white-space: nowrap; }
code { background: #edf2f7; padding: 0 .25rem; font-size: .85em; } .missing { background: #fffaf0; padding: .5rem 1rem; }
.kind { border-radius: .6rem; padding: 0 .5rem; font-size: .8em; background: #e2e8f0; white-space: nowrap; }
.missed { color: #c53030; }
"""
_KIND_TEXT = """<p>Every number is read from a file that a command of the project wrote; those of other systems from
<code>anchors.json</code>. <b>measured</b>: on a machine or a board;
<b>simulated</b>: cycles or bits of the RTL in simulation; <b>routed</b>: after place and route; <b>synthesised</b>: before it;
<b>projected</b>: from the cycle model, or a clock that the design was not routed at; <b>published</b>: by the authors of the
other system.</p>"""


class Markup(str):
    """Text that is HTML already."""


@dataclass(frozen=True)
class Section:
    """A heading, what it shows, and `body`, which makes the HTML or nothing when the files hold no such numbers; then the
    page names `command`, which makes them."""

    title: str
    about: str
    command: str
    body: Callable[[Measurements], str]


def write_page(found: Measurements, folder: str) -> tuple[str, list[str]]:
    """(page, titles of the sections without numbers). folder: where the numbers lie.

    The page is self-contained: no script, no font, no picture from elsewhere. Equal numbers give equal bytes.
    """
    missing = []
    parts = [
        '<!DOCTYPE html><html lang="en"><head><meta charset="utf-8">',
        '<meta name="viewport" content="width=device-width, initial-scale=1">',
        f"<title>tritape report</title><style>{STYLE}</style></head><body><h1>tritape report</h1>",
        _KIND_TEXT,
    ]
    for section in SECTIONS:
        parts.append(f"<h2>{escape(section.title)}</h2><p>{escape(section.about)}</p>")
        body = section.body(found)
        if not body:
            missing.append(section.title)
            body = (
                f'<p class="missing">Not measured yet. <code>{escape(section.command.format(folder=folder))}</code></p>'
            )
        parts.append(body)
    if found.unused:
        names = ", ".join(f"<code>{escape(name)}.json</code>" for name in found.unused)
        parts.append(f"<h2>Not used</h2><p>Files of no plot: {names}.</p>")
    return "\n".join([*parts, "</body></html>\n"]), missing


def _bars(found: Measurements) -> str:
    rows = [
        (row["bar"], row["must_be"], row["value"], Markup("met" if row["met"] else '<b class="missed">missed</b>'),
         _kind(row["kind"]), Markup(f"<code>{escape(row['command'])}</code>"))
        for rows in found.bars.values() for row in rows
    ]  # fmt: skip
    return _table(("bar", "must be", "value", "", "kind", "command"), rows) if rows else ""


def _roofline(found: Measurements) -> str:
    points = list(rate_points(found))
    if not any(kind != "published" for *_, kind in points):
        return ""
    figure = plots.roofline(points, {name: ternary_weights(shape) for name, shape in PUBLISHED.items()})
    rows: list[tuple[object, ...]] = [
        (label, f"{rate / 1e9:,.2f}", _rate(tokens), _kind(kind)) for label, rate, tokens, kind in points
    ]
    elsewhere: list[tuple[object, ...]] = [
        (
            f"{row['system']}, {row['model']}",
            "on chip or not stated",
            _rate(row["tokens_per_second"]),
            _kind(row.get("kind", "published")),
        )
        for systems in found.systems.values()
        for row in systems
        if not row.get("bandwidth")
    ]
    return figure + _table(("system", "memory, GB/s", "tokens/s", "kind"), rows + elsewhere)


def _fractions(found: Measurements) -> str:
    if not found.runs:
        return ""
    figure = plots.bars(
        {n: r["roofline_fraction"] for n, r in found.runs.items()}, "share of the roofline", percent=True
    )
    rows = [
        (name, r.get("shape", ""), r["measured_cycles"], f"{r['roofline_fraction']:.2%}", f"{r['estimate_error']:+.3%}",
         "yes" if r["bit_exact"] else Markup('<b class="missed">no</b>'), _kind("simulated"))
        for name, r in found.runs.items()
    ]  # fmt: skip
    return figure + _table(("run", "shape", "cycles", "of the roofline", "cycle model", "bit-exact", "kind"), rows)


def _cycles(found: Measurements) -> str:
    if not found.estimates:
        return ""
    shares = {
        name: {part: cycles / r["cycles_per_token"] for part, cycles in r["cycles"].items()}
        for name, r in found.estimates.items()
    }
    names = list(dict.fromkeys(part for r in found.estimates.values() for part in r["cycles"]))
    rows = [
        (name, r["cycles_per_token"], *(r["cycles"].get(part, 0) for part in names), _kind("projected"))
        for name, r in found.estimates.items()
    ]
    stalls = [
        (
            name,
            r["measured_cycles"],
            ", ".join(f"{k} {v:,}" for k, v in r.get("stall_cycles", {}).items()),
            _kind("simulated"),
        )
        for name, r in found.runs.items()
    ]
    text = plots.stacked(shares, "share of a token's cycles") + _table(("estimate", "cycles", *names, "kind"), rows)
    return text + (_table(("run", "cycles", "of these, stalled", "kind"), stalls) if stalls else "")


def _utilisation(found: Measurements) -> str:
    parts = []
    for name, result in found.timelines.items():
        sections = [(what, start, end, words) for what, start, end, words in result["timeline"]]
        busy = sum(words for *_, words in sections) * result["word_cycles"] / result["cycles_per_token"]
        parts.append(f"<h3>{escape(name)}: memory busy {busy:.1%} of the token {_kind('projected')}</h3>")
        parts.append(plots.utilisation(sections, result["word_cycles"]))
    return "\n".join(parts)


def _area(found: Measurements) -> str:
    if not found.areas:
        return ""
    figure = plots.bars({name: r["luts"] for name, r in found.areas.items()}, "LUT4 equivalents")
    rows = [
        (
            name,
            r["luts"],
            r["ffs"],
            r["brams"],
            r["dsps"],
            "-" if r["fmax_mhz"] is None else r["fmax_mhz"],
            _kind(area_kind(r)),
        )
        for name, r in found.areas.items()
    ]
    return figure + _table(("unit", "LUTs", "registers", "block RAMs", "DSPs", "MHz", "kind"), rows)


def _spaces(found: Measurements) -> str:
    parts = []
    for name, result in found.spaces.items():
        parts.append(f"<h3>{escape(name)}: {len(result['points']):,} points {_kind(result['kind'])}</h3>")
        parts.append(plots.space(result["points"], result["front"]))
        rows = [
            (r["part"], r["engines"], r["groups"], r["tables_per_filler"], r["batch"], r["clock"] / 1e6,
             _rate(r["tokens_per_second"]), f"{r['roofline_fraction']:.1%}", r["luts"], r["brams"], r["dsps"], r["limited_by"],
             _kind("projected"))
            for r in result["front"]
        ]  # fmt: skip
        header = ("part", "E", "G", "tables a filler", "batch", "MHz", "tokens/s", "of the roofline", "LUTs, estimated",
                  "block RAMs", "DSPs", "limited by", "kind")  # fmt: skip
        parts.append(_table(header, rows))
    return "\n".join(parts)


def _padding(found: Measurements) -> str:
    if not found.estimates:
        return ""
    figure = plots.bars(
        {n: r["padding"] for n, r in found.estimates.items()}, "padding, of streamed weights", percent=True
    )
    rows = [
        (name, r["ternary_weights"], r["tape_bytes"], f"{r['padding']:.2%}", r["limited_by"], _kind("projected"))
        for name, r in found.estimates.items()
    ]
    return figure + _table(("estimate", "ternary weights", "bytes a token", "padding", "limited by", "kind"), rows)


def _packing(found: Measurements) -> str:
    if not found.packs:
        return ""
    figure = plots.bars({n: r["peak_memory_bytes"] / 1e6 for n, r in found.packs.items()}, "peak memory, MB")
    rows = [
        (name, r["ternary_weights"], r["image_bytes"], r["peak_memory_bytes"], round(r["seconds"]), _kind("measured"))
        for name, r in found.packs.items()
    ]
    return figure + _table(
        ("checkpoint", "ternary weights", "tape, bytes", "peak memory, bytes", "seconds", "kind"), rows
    )


SECTIONS = (
    Section(
        "Roofline", "Tokens a second against what the memory delivers. On a line every byte is five useful weights.",
        "tritape estimate 370m --groups 69 --clock 250e6 --bandwidth 16e9 --json {folder}/370m-16GBs.json", _roofline,
    ),
    Section(
        "Share of the roofline", "Ideal cycles over those of the RTL: one pass of the ternary weights at 5 a byte is 100 %.",
        "tritape perf --hidden 1024 --layers 1 --vocab 2048 --json {folder}/perf-1024.json", _fractions,
    ),
    Section(
        "Cycles by instruction", "Where a token's cycles go: projections, gains and other sections, waiting included.",
        "tritape estimate 370m --groups 69 --clock 250e6 --bandwidth 16e9 --json {folder}/370m-16GBs.json", _cycles,
    ),
    Section(
        "Memory over a token", "How busy the memory is from the first to the last cycle of a token.",
        "tritape timeline 370m --groups 69 --clock 250e6 --bandwidth 16e9 --json {folder}/timeline-370m.json", _utilisation,
    ),
    Section(
        "Area by unit", "What each unit costs on an ECP5.",
        "tritape area engine --route --json {folder}/engine.json", _area,
    ),
    Section(
        "Design space", "Tokens a second against LUTs of a part; the line joins the points that no other beats in both.",
        "tritape explore docs/examples/kv260-370m.toml --json {folder}/space-kv260-370m.json", _spaces,
    ),
    Section(
        "Padding", "Weight bytes that carry nothing, because a row's length does not divide by 5 G.",
        "tritape estimate 370m --groups 69 --clock 250e6 --bandwidth 16e9 --json {folder}/370m-16GBs.json", _padding,
    ),
    Section(
        "Packing", "Memory and time that a checkpoint takes to become a tape; large ones are streamed layer by layer.",
        "tritape pack MODEL -o model.tape --json {folder}/pack.json", _packing,
    ),
    Section("Bars", "What the project promises, and what was found.", "python benchmarks/bars.py", _bars),
)  # fmt: skip


def _rate(tokens: float) -> str:
    return f"{tokens:,.1f}" if tokens >= 10 else f"{tokens:.2f}"


def _kind(kind: str) -> Markup:
    return Markup(f'<span class="kind">{escape(kind)}</span>')


def _table(header: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    head = "".join(f"<th>{escape(name)}</th>" for name in header)
    body = "".join("<tr>" + "".join(_cell(value) for value in row) + "</tr>" for row in rows)
    return f'<div class="table"><table><tr>{head}</tr>{body}</table></div>'


def _cell(value: object) -> str:
    if isinstance(value, Markup):
        return f"<td>{value}</td>"
    if isinstance(value, bool) or not isinstance(value, int | float):
        return f"<td>{escape(str(value))}</td>"
    text = f"{value:.4g}" if isinstance(value, float) else f"{value:,}"
    return f'<td class="number">{text}</td>'
