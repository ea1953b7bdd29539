"""Loss curves and study figures as PNG."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tritape.base.extras import extra
from tritape.base.files import replacing


def figure(width: float = 6.4, height: float = 4.0) -> Any:
    """An empty figure with one axis, drawn without a display."""
    with extra("plots", "matplotlib"):
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure

    picture = Figure(figsize=(width, height), layout="constrained")
    FigureCanvasAgg(picture)
    return picture


def save_figure(picture: Any, path: Path) -> None:
    """Write a PNG, whole or not at all, without the date, so that equal figures are equal files."""
    with replacing(path) as stream:
        picture.savefig(stream, format="png", dpi=110, metadata={"Software": None})


def plot_losses(log: list[dict[str, float]], name: str, path: Path) -> None:
    """Training loss in nats a token over steps, and the bits per byte of the validation text where they were measured."""
    picture = figure()
    axis = picture.subplots()
    axis.plot([row["step"] for row in log], [row["loss"] for row in log], linewidth=0.8, label="training loss")
    axis.set(xlabel="step", ylabel="nats a token", title=name)
    measured = [row for row in log if "valid_bits_per_byte" in row]
    if measured:
        right = axis.twinx()
        values = [row["valid_bits_per_byte"] for row in measured]
        right.plot([row["step"] for row in measured], values, "o-", color="tab:orange", label="validation")
        right.set_ylabel("bits per byte, validation", color="tab:orange")
    save_figure(picture, path)
