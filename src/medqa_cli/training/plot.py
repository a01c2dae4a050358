"""The loss curves of a run as a picture. Does not compute anything."""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any


def plot_losses(log: Sequence[dict[str, Any]], path: Path) -> None:
    """Draw training and validation loss over optimizer steps into a PNG file, whole or not at all."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    train = [(line["step"], line["loss"]) for line in log if "loss" in line]
    validation = [(line["step"], line["validation_loss"]) for line in log if "validation_loss" in line]
    figure = Figure(figsize=(7, 4), dpi=120, layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    for points, label, style in ((train, "training", "-"), (validation, "validation", "o--")):
        if points:
            axes.plot([p[0] for p in points], [p[1] for p in points], style, label=label, linewidth=1.5, markersize=4)
    axes.set_xlabel("optimizer step")
    axes.set_ylabel("loss (nats per answer token)")
    axes.grid(alpha=0.3)
    axes.legend()
    picture = io.BytesIO()
    figure.savefig(picture, format="png")
    temporary = path.with_suffix(".tmp")
    temporary.write_bytes(picture.getvalue())
    temporary.replace(path)
