"""``loss.png``: training and validation loss over the steps."""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path
from statistics import fmean
from typing import Any

from medqa_cli import console

# From this many logged losses on, the plot has their running mean.
_MANY = 40
_TRAIN, _VALIDATION, _BASE = "tab:blue", "tab:orange", "tab:gray"

_Points = list[tuple[int, float]]


def plot_losses(log: Sequence[dict[str, Any]], path: Path) -> None:
    """Draw training and validation loss over optimizer steps into a PNG file.

    If the image cannot be written, warn and continue.

    Args:
        log: the lines of ``train.jsonl``.
        path: the file; replaced.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
    from matplotlib.ticker import MaxNLocator

    train: _Points = [(line["step"], line["loss"]) for line in log if "loss" in line]
    validation: _Points = [(line["step"], line["validation_loss"]) for line in log if "validation_loss" in line]
    figure = Figure(figsize=(8, 4.5), dpi=120, layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    _draw_train(axes, train)
    _draw_validation(axes, validation)
    axes.set_xlabel("optimizer step")
    axes.set_ylabel("loss (nats per answer token)")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.grid(alpha=0.3)
    if train or validation:
        # Above the axes: over no curve, wherever they run.
        figure.legend(loc="outside upper center", ncols=3, fontsize="small", frameon=False)
    picture = io.BytesIO()
    figure.savefig(picture, format="png")
    temporary = path.with_suffix(".tmp")
    try:
        temporary.write_bytes(picture.getvalue())
        temporary.replace(path)
    except OSError as error:
        temporary.unlink(missing_ok=True)
        console.warn(f"{path} could not be written: {error.strerror}")


def _draw_train(axes: Any, points: _Points) -> None:
    if not points:
        return
    steps, losses = zip(*points, strict=True)
    if len(points) < _MANY:
        axes.plot(steps, losses, color=_TRAIN, linewidth=1.5, marker=".", label="training")
        return
    axes.plot(steps, losses, color=_TRAIN, linewidth=0.7, alpha=0.35, label="training")
    window = max(5, len(points) // 20)
    # Of each loss and those around it; fewer at the ends.
    before, after = (window - 1) // 2, window // 2
    running_mean = [fmean(losses[max(0, i - before) : i + after + 1]) for i in range(len(losses))]
    label = f"training, mean of {window} logged losses"
    axes.plot(steps, running_mean, color=_TRAIN, linewidth=1.8, label=label)


def _draw_validation(axes: Any, points: _Points) -> None:
    tuned = [point for point in points if point[0] > 0]
    if points and points[0][0] == 0:
        base = points[0][1]
        axes.axhline(base, color=_BASE, linestyle="--", linewidth=1.2, label=f"base model on validation: {base:.3f}")
    if not tuned:
        return
    steps, losses = zip(*points, strict=True)
    axes.plot(steps, losses, color=_VALIDATION, linewidth=1.5, marker="o", markersize=4, label="validation")
    best_step, best = min(tuned, key=lambda point: point[1])
    label = f"best: {best:.3f} at step {best_step}"
    axes.plot([best_step], [best], color=_VALIDATION, marker="*", markersize=12, linestyle="none", label=label)
