"""Draws the token lengths of a data set: two histograms over one logarithmic axis. Does not count tokens."""

from __future__ import annotations

import io
import math
import statistics
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

# Blue and vermilion of Okabe and Ito: told apart with any kind of colour blindness, and in grey.
_WITHIN, _OVER, _INK = "#0072B2", "#D55E00", "#333333"
_BINS = 60


def draw_lengths(answers: Sequence[int], examples: Sequence[int], max_length: int, path: Path) -> None:
    """Write a PNG file with the histograms of answers and of whole examples, the limit and the share over it.

    Args:
        answers: tokens of each answer, at least one.
        examples: tokens of each whole example.
        max_length: the limit of an example in tokens, drawn as a line.
        path: the file to write. The same lengths give the same bytes: neither date nor version is in it.

    Raises:
        OSError: the file cannot be written.
    """
    import matplotlib.style
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    both = (answers, examples)
    edges = _edges(max(1, min(map(min, both))), max(map(max, both)), max_length)
    # Whoever has a matplotlibrc of their own gets the same picture.
    with matplotlib.style.context(["default", {"font.size": 10}]):
        figure = Figure(figsize=(8, 5.6), dpi=120, layout="constrained")
        FigureCanvasAgg(figure)
        upper, lower = figure.subplots(2, 1, sharex=True)
        _draw_histogram(upper, "Tokens of an answer", answers, edges, max_length)
        _draw_histogram(
            lower, "Tokens of a whole example: prompt, answer and special tokens", examples, edges, max_length
        )
        _label_tokens(lower, edges)
        picture = io.BytesIO()
        figure.savefig(picture, format="png", metadata={"Software": None})
    path.write_bytes(picture.getvalue())


def _edges(shortest: int, longest: int, max_length: int) -> npt.NDArray[np.float64]:
    """Return bin edges between whole numbers, about evenly spaced on a logarithmic axis, one of them at the limit."""
    import numpy as np

    low, high = min(shortest, max_length), max(longest, max_length)
    step = max(math.log((high + 1) / low) / _BINS, 0.01)
    powers = np.arange(-math.ceil(math.log(max_length / low) / step), math.ceil(math.log(high / max_length) / step) + 1)
    edges = np.floor((max_length + 0.5) * np.exp(powers * step)) + 0.5
    return np.unique(np.clip([low - 0.5, *edges, high + 0.5], low - 0.5, high + 0.5))


def _draw_histogram(
    axes: Any, title: str, lengths: Sequence[int], edges: npt.NDArray[np.float64], max_length: int
) -> None:
    import numpy as np
    from matplotlib.ticker import MaxNLocator

    # An empty text counts with the shortest: a logarithmic axis has no zero.
    values = np.maximum(np.asarray(lengths), 1)
    over = values > max_length
    for part, colour in ((values[~over], _WITHIN), (values[over], _OVER)):
        axes.hist(part, bins=edges, color=colour, edgecolor="white", linewidth=0.4)
    axes.axvline(max_length + 0.5, color=_INK, linewidth=1.2, linestyle="--")
    # In the room above the bars, on the side of the line that has more of it.
    axes.margins(y=0.2)
    line_at = math.log(max_length / edges[0]) / math.log(edges[-1] / edges[0])
    axes.annotate(
        f"over max_length = {max_length:,}: {100 * over.mean():.1f} %",
        xy=(max_length + 0.5, 0.97),
        xycoords=("data", "axes fraction"),
        xytext=(-5 if line_at > 0.5 else 5, 0),
        textcoords="offset points",
        horizontalalignment="right" if line_at > 0.5 else "left",
        verticalalignment="top",
        color=_OVER,
        fontweight="bold",
    )
    median = statistics.median_low(lengths)
    axes.set_title(f"{title} (n = {len(lengths):,}, median {median:,})", loc="left", color=_INK, fontsize=11)
    axes.set_ylabel("rows", color=_INK)
    axes.grid(axis="y", alpha=0.25, linewidth=0.6)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
    axes.yaxis.set_major_locator(MaxNLocator(5, integer=True))
    axes.yaxis.set_major_formatter("{x:,.0f}")


def _label_tokens(axes: Any, edges: npt.NDArray[np.float64]) -> None:
    from matplotlib.ticker import NullLocator

    axes.set_xscale("log")
    axes.set_xlim(edges[0], edges[-1])
    axes.set_xticks(
        [step * 10**power for power in range(7) for step in (1, 2, 5) if edges[0] <= step * 10**power <= edges[-1]]
    )
    axes.xaxis.set_major_formatter("{x:,.0f}")
    axes.xaxis.set_minor_locator(NullLocator())
    axes.set_xlabel("tokens (logarithmic)", color=_INK)
