"""Pictures of the documentation as SVG. `python docs/diagrams.py` writes them anew; tests compare them with this file.

`python docs/diagrams.py --record` first runs `make demo`'s command again and keeps what it prints in `docs/demo.txt`.
"""

from __future__ import annotations

import subprocess
import sys
import textwrap
from html import escape
from pathlib import Path

DOCS = Path(__file__).parent
STYLE = (
    "text{font:14px sans-serif;fill:#1b1f24;text-anchor:middle}.small{font-size:12px;fill:#57606a}"
    "rect{fill:#f6f8fa;stroke:#57606a;stroke-width:1.5}.memory{fill:#fff8c5}.engine{fill:#ddf4ff}.host{fill:#dafbe1}"
    "path{fill:none;stroke:#1b1f24;stroke-width:1.5}.head{fill:#1b1f24;stroke:none}.page{fill:#ffffff;stroke:none}"
)

BOXES = {  # name: x, y, width, height, class, lines (the first one large)
    "host": (20, 20, 140, 64, "host", ["Host computer", "text and tokens"]),
    "tape": (220, 20, 720, 64, "memory",
             ["Tape in memory", "instructions, gains, scales, weights at 5 trits a byte,", "a CRC-32 behind every section"]),
    "link": (20, 144, 140, 64, "", ["Host link", "frames, runner"]),
    "reader": (220, 144, 130, 64, "", ["Reader", "requests"]),
    "sequencer": (420, 144, 160, 64, "", ["Sequencer", "decodes, checks CRCs"]),
    "engine": (740, 144, 200, 206, "engine", ["Engine", "G tables of 122 sums", "table filler", "adder tree", "row accumulator"]),
    "embedding": (220, 286, 130, 64, "", ["Embedding", "row to vector x"]),
    "norm": (420, 286, 160, 64, "", ["RMSNorm, quantiser", "statistics, then int8"]),
    "residual": (220, 406, 130, 64, "", ["Residual memory", "x and v"]),
    "dequantiser": (740, 406, 200, 64, "", ["Dequantiser", "row sum times scale"]),
    "head": (20, 546, 140, 64, "", ["LM head", "sampler, argmax"]),
    "add": (220, 546, 130, 64, "", ["Residual add", "x + y"]),
    "mixer": (420, 546, 160, 64, "", ["Channel mixer", "gate and up"]),
    "mlgru": (650, 546, 180, 64, "", ["MLGRU", "gates, recurrent state"]),
}  # fmt: skip

ARROWS = [  # points from tail to head, label, where the label stands
    ([(90, 84), (90, 144)], "bytes", (112, 118)),
    ([(160, 176), (220, 176)], "token", (190, 168)),
    ([(285, 144), (285, 84)], "three reads a token", (352, 118)),
    ([(500, 84), (500, 144)], "words of G bytes", (558, 118)),
    ([(580, 176), (740, 176)], "weights", (660, 168)),
    ([(520, 208), (520, 286)], "gains", (542, 250)),
    ([(450, 208), (450, 247), (285, 247), (285, 286)], "embedding row", (365, 240)),
    ([(285, 350), (285, 406)], "", (0, 0)),
    ([(350, 428), (470, 428), (470, 350)], "vector", (410, 420)),
    ([(580, 318), (740, 318)], "int8 activations", (660, 310)),
    ([(550, 350), (550, 438), (740, 438)], "scale", (645, 430)),
    ([(840, 350), (840, 406)], "row sums", (872, 382)),
    ([(860, 470), (860, 508), (120, 508), (120, 546)], "values: each instruction says where they go", (600, 500)),
    ([(285, 508), (285, 546)], "", (0, 0)),
    ([(500, 508), (500, 546)], "", (0, 0)),
    ([(740, 508), (740, 546)], "", (0, 0)),
    ([(740, 610), (740, 640), (190, 640), (190, 438), (220, 438)], "elements of the next vector", (450, 656)),
    ([(50, 546), (50, 208)], "next token", (88, 380)),
]
LINES = [[(500, 610), (500, 640)], [(285, 610), (285, 640)]]
"""Outputs that join the line of the first output below."""


def _path(points: list[tuple[int, int]]) -> str:
    return '<path d="M' + " L".join(f"{x} {y}" for x, y in points) + '"/>'


def _head(before: tuple[int, int], tip: tuple[int, int]) -> str:
    """A triangle at `tip`, for a line that comes straight from `before`."""
    (x0, y0), (x, y) = before, tip
    dx, dy = (x > x0) - (x < x0), (y > y0) - (y < y0)
    left, right = (x - 9 * dx - 5 * dy, y - 9 * dy + 5 * dx), (x - 9 * dx + 5 * dy, y - 9 * dy - 5 * dx)
    return f'<path class="head" d="M{x} {y} L{left[0]} {left[1]} L{right[0]} {right[1]} Z"/>'


def accelerator() -> str:
    """The accelerator: every unit of the token loop, and what flows between them."""
    out = [
        '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 960 676" role="img">',
        "<title>The accelerator: from the tape in memory and a token to the next token</title>",
        f"<style>{STYLE}</style>",
        '<rect class="page" width="960" height="676"/>',
    ]
    out += [_path(points) for points in LINES]
    for points, label, (x, y) in ARROWS:
        out += [_path(points), _head(points[-2], points[-1])]
        if label:
            out.append(f'<text class="small" x="{x}" y="{y}">{escape(label)}</text>')
    out.append(_head((90, 144), (90, 84)))  # bytes go both ways
    for x, y, width, height, kind, lines in BOXES.values():
        out.append(f'<rect class="{kind}" x="{x}" y="{y}" width="{width}" height="{height}" rx="6"/>')
        top = y + height / 2 - 9 * (len(lines) - 1) + 5
        for i, line in enumerate(lines):
            small = ' class="small"' if i else ""
            out.append(f'<text{small} x="{x + width / 2:g}" y="{top + 18 * i:g}">{escape(line)}</text>')
    return "\n".join([*out, "</svg>", ""])


DEMO = [
    "generate",
    "It is a truth universally acknowledged, that",
    "--tokens",
    "48",
    "--temperature",
    "0.7",
    "--seed",
    "1",
]
SHOWN = 9
"""Lines of the recording on the picture; the rest counts stalls and saturations."""
WIDTH, LINE = 92, 21


def record() -> None:
    """Run the demo and keep its output."""
    run = subprocess.run(
        [sys.executable, "-c", "import tritape.cli; tritape.cli.main()", *DEMO], stdout=subprocess.PIPE, check=True
    )
    lines = [line.rstrip() for line in run.stdout.decode().splitlines()]
    (DOCS / "demo.txt").write_text("\n".join(lines) + "\n")


def demo() -> str:
    """A terminal with the demo's command and the first lines of what it printed."""
    command = " ".join(["tritape", *(f'"{word}"' if " " in word else word for word in DEMO)])
    recorded = (DOCS / "demo.txt").read_text().splitlines()[:SHOWN]
    lines = [("command", line) for line in textwrap.wrap(f"$ {command}", WIDTH)]
    lines += [("text", line) for line in textwrap.wrap(recorded[0], WIDTH)]
    lines += [("figures", line) for line in recorded[1:]]
    height = LINE * len(lines) + 36
    out = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 820 {height}" role="img">',
        "<title>The embedded model writes text in simulated hardware, every logit checked</title>",
        "<style>rect{fill:#0d1117}text{font:14px monospace;fill:#c9d1d9;white-space:pre}.command{fill:#7ee787}"
        ".text{fill:#ffffff;font-weight:bold}</style>",
        f'<rect width="820" height="{height}" rx="8"/>',
    ]
    for i, (kind, line) in enumerate(lines):
        out.append(f'<text class="{kind}" xml:space="preserve" x="20" y="{34 + LINE * i}">{escape(line)}</text>')
    return "\n".join([*out, "</svg>", ""])


PICTURES = {"accelerator.svg": accelerator, "demo.svg": demo}

if __name__ == "__main__":
    if "--record" in sys.argv[1:]:
        record()
    for name, draw in PICTURES.items():
        (DOCS / name).write_text(draw())
