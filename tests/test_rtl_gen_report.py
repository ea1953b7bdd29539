"""The report: every number comes from a file, files are known by their keys, and what is missing is named with its command."""

from __future__ import annotations

import itertools
import json
import re
import sys
from html.parser import HTMLParser
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg

from tritape import cli
from tritape.base.errors import TritapeError
from tritape.hw.config import Config
from tritape.model.config import ModelConfig
from tritape.model.tape.layout import ternary_weights
from tritape.rtl_gen.estimate import PUBLISHED, estimate_tokens
from tritape.rtl_gen.report import plots
from tritape.rtl_gen.report.measurements import KINDS, bandwidth, rate_points, read_measurements
from tritape.rtl_gen.report.page import SECTIONS, write_page

BENCHMARKS = Path(__file__).parent.parent / "benchmarks"
AREA = {"luts": 709, "luts_per_mac": 8.86, "ffs": 800, "brams": 20, "dsps": 0, "fmax_mhz": None}
RUN: dict[str, Any] = {
    "shape": "hidden 40", "groups": 16, "measured_cycles": 12345, "estimated_cycles": 12300, "estimate_error": -0.0036,
    "ideal_cycles": 11000.0, "roofline_fraction": 0.891, "bit_exact": True, "stall_cycles": {"fill": 17},
}  # fmt: skip
PACK = {"image_bytes": 7_654_321, "ternary_weights": 31_000_000, "seconds": 12.7, "peak_memory_bytes": 98_765_432}
BARS = [{"bar": "a bar", "must_be": "> 1", "value": 2.5, "met": False, "kind": "measured", "command": "tritape x <y>"}]


class Page(HTMLParser):
    """Checks that every element is closed and nothing is loaded from elsewhere; collects the text."""

    VOID = ("meta", "br", "use", "path", "rect", "line")

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.text = ""
        self.links: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.links += [value or "" for name, value in attrs if name in ("src", "href", "xlink:href")]
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.links += [value or "" for name, value in attrs if name in ("src", "href", "xlink:href")]

    def handle_endtag(self, tag: str) -> None:
        if tag not in self.VOID:
            assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data


_POINT = {
    "part": "xck26", "engines": 4, "groups": 16, "tables_per_filler": 1, "batch": 1, "clock": 250e6, "tokens_per_second": 221.9,
    "roofline_fraction": 0.946, "luts": 54321, "brams": 160, "dsps": 60, "limited_by": "engine", "fits": True,
}  # fmt: skip
SPACE = {
    "space": "s", "kind": "projected", "points": [_POINT, _POINT | {"luts": 60000, "fits": False}],
    "front": [_POINT | {"synthesised": {"luts": 50000}}],
}  # fmt: skip


def write(folder: Path, **files: Any) -> Path:
    for name, value in files.items():
        (folder / f"{name}.json").write_text(json.dumps(value))
    return folder


def command(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> None:
    monkeypatch.setattr(sys, "argv", ["tritape", *arguments])
    with pytest.raises(SystemExit) as end:
        cli.main()
    assert end.value.code == 0


@pytest.fixture
def full(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """One file of every kind, and one of none."""
    estimate = estimate_tokens(PUBLISHED["370m"], Config.for_model(PUBLISHED["370m"], 16), 100e6, None)
    system = {"system": "theirs", "device": "d", "model": "m", "tokens_per_second": 3.25, "bandwidth": 2e9}
    write(tmp_path, estimate=estimate, run=RUN, engine=AREA, bars=BARS, pack=PACK, other={"a": 1}, systems=[system])
    write(tmp_path, space=SPACE)
    command(monkeypatch, "timeline", "370m", "--json", str(tmp_path / "timeline.json"))
    return tmp_path


def test_files_are_known_by_their_keys(full: Path) -> None:
    found = read_measurements(full)
    assert (list(found.estimates), list(found.runs), list(found.areas)) == (["estimate"], ["run"], ["engine"])
    assert (list(found.bars), list(found.timelines), list(found.systems)) == (["bars"], ["timeline"], ["systems"])
    assert (list(found.packs), list(found.spaces), found.unused) == (["pack"], ["space"], ["other"])


def test_page(full: Path) -> None:
    """Well-formed, self-contained, with the numbers of every file; each marked with how it came about."""
    found = read_measurements(full)
    text, missing = write_page(found, "benchmarks")
    assert missing == []
    page = Page(text)
    assert page.open == []
    assert all(link.startswith("#") for link in page.links), page.links
    assert text.count("<svg") == 8
    for number in (
        "12,345",
        "89.10%",
        "-0.360%",
        "709",
        "3.25",
        "98,765,432",
        "54,321",
        "13",
        f"{found.estimates['estimate']['cycles_per_token']:,}",
    ):
        assert number in page.text, number
    for kind in ("measured", "simulated", "synthesised", "projected", "published"):
        assert f'<span class="kind">{kind}</span>' in text
    assert "tritape x <y>" in page.text
    assert "Not measured yet" not in page.text


def test_equal_numbers_give_equal_bytes(tmp_path: Path) -> None:
    found = read_measurements(write(tmp_path, engine=AREA, bars=BARS))
    assert write_page(found, "benchmarks") == write_page(found, "benchmarks")


def test_missing_measurements_name_their_command(tmp_path: Path) -> None:
    """With no files every section says what makes it; with one, that one does not."""
    text = Page(write_page(read_measurements(tmp_path), "here")[0]).text
    assert text.count("Not measured yet") == len(SECTIONS)
    for section in SECTIONS:
        assert section.command.format(folder="here") in text
    found = read_measurements(write(tmp_path, run=RUN))
    assert write_page(found, "here")[1] == [s.title for s in SECTIONS if s.title != "Share of the roofline"]


def test_published_figures_alone_are_no_roofline(tmp_path: Path) -> None:
    system = {"system": "theirs", "device": "d", "model": "m", "tokens_per_second": 3.25, "bandwidth": 2e9}
    assert "Roofline" in write_page(read_measurements(write(tmp_path, systems=[system])), "here")[1]


def test_commands_of_the_sections_exist() -> None:
    for section in SECTIONS:
        first, name = section.command.split()[:2]
        if first == "tritape":
            assert name in ("estimate", "perf", "timeline", "area", "pack", "explore")
        else:
            assert (BENCHMARKS.parent / name).is_file()


def test_bandwidth_of_a_result() -> None:
    """From an estimate's own numbers, it is what the estimate was asked for."""
    shape = ModelConfig(256, 160, 2, 320)
    config = Config.for_model(shape, 16)
    assert bandwidth(estimate_tokens(shape, config, 100e6, 0.4e9)) == pytest.approx(0.4e9)
    assert bandwidth(estimate_tokens(shape, config, 100e6, None)) == pytest.approx(1.6e9)
    assert bandwidth(RUN) is None
    assert bandwidth(RUN | {"memory_bytes_per_cycle": 64, "clock_hz": 250e6}) == 16e9


def test_busy_shares() -> None:
    """Half of the memory's rate in the first half of the token, all of it in the third quarter, nothing in the last."""
    sections = [("a", 0.0, 50.0, 25), ("b", 50.0, 75.0, 25), ("c", 75.0, 75.0, 0), ("d", 75.0, 100.0, 0)]
    assert plots.busy_shares(sections, 1.0, 4) == pytest.approx([0.5, 0.5, 1.0, 0.0])
    assert plots.busy_shares(sections, 1.0, 2) == pytest.approx([0.5, 0.5])
    assert plots.busy_shares(sections, 0.5, 1) == pytest.approx([0.25])


def test_every_kind_has_a_marker() -> None:
    assert set(plots.MARKERS) == set(KINDS)


def test_timeline_covers_the_token(full: Path) -> None:
    """Sections follow one another without overlap, and carry all words that a token reads."""
    result = read_measurements(full).timelines["timeline"]
    sections = result["timeline"]
    for (_, _, before, _), (_, start, end, _) in pairwise(sections):
        assert start == pytest.approx(before)
        assert end >= start
    words = sum(words for *_, words in sections)
    estimate = estimate_tokens(PUBLISHED["370m"], Config.for_model(PUBLISHED["370m"], 16), 100e6, None)
    prologue = estimate["tape_bytes"] // 16 - words  # read while the token before ends
    assert 0 < prologue < 0.01 * words
    assert sections[-1][2] <= result["cycles_per_token"]


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda folder: folder / "none", "none: measurements must be a folder, not missing; "),
        (
            lambda folder: (folder / "a.json").write_text("{"),
            "a.json: file must be JSON, not damaged text; measure again",
        ),
    ],
)
def test_refusals(tmp_path: Path, make: Any, message: str) -> None:
    made = make(tmp_path)
    with pytest.raises(TritapeError, match=re.escape(message)):
        read_measurements(made if isinstance(made, Path) else tmp_path)


def test_command(full: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    command(monkeypatch, "report", str(full), "-o", str(full / "r.html"))
    assert (full / "r.html").read_text().startswith("<!DOCTYPE html>")
    assert "not measured" not in capsys.readouterr().out


def test_files_of_the_project() -> None:
    """Every file in benchmarks/ is known, and there is something for the first and the last section."""
    found = read_measurements(BENCHMARKS)
    assert found.unused == []
    assert found.estimates
    assert found.bars
    assert found.campaigns.keys() >= {"faults", "mutants"}
    assert found.areas.keys() >= {"area-accelerator", "area-engine"}
    assert any(row["system"] == "ternfpga" for row in found.systems["anchors"])


def no_label_lies_on_another(points: list[tuple[str, float, float, str]]) -> None:
    figure = plots.roofline_figure(points, {name: ternary_weights(shape) for name, shape in PUBLISHED.items()})
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    texts = figure.axes[0].texts
    assert len(texts) == len(points) + len(PUBLISHED)
    boxes = [(text.get_text(), plots.label_box(text, canvas.get_renderer())) for text in texts]
    overlaps = [(a, b) for (a, one), (b, other) in itertools.combinations(boxes, 2) if one.overlaps(other)]
    assert not overlaps
    assert all(box.x0 >= 0 and box.x1 <= canvas.get_renderer().width for _, box in boxes)


def test_labels_of_the_roofline_do_not_overlap() -> None:
    no_label_lies_on_another(list(rate_points(read_measurements(BENCHMARKS))))


def test_labels_of_many_equal_points_do_not_overlap() -> None:
    no_label_lies_on_another(
        [(f"a design with a name {n}", 1e9 * (1 + n % 2), 100.0 + n, "projected") for n in range(16)]
    )
