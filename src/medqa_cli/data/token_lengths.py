"""Token lengths of the rows as they are written: counted, summed up for the report, and drawn as two histograms.

Keeps two whole numbers of four bytes for each row.
"""

import io
import math
import statistics
from array import array
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

BATCH_ROWS = 512
_TITLE_TOKENS = 16  # of a source: MedQuAD's median question (SmolLM2's tokenizer: 11), number and line breaks

CountTokens = Callable[[Sequence[str]], list[int]]
# Blue and vermilion of Okabe and Ito: distinct with any kind of color blindness, and in gray.
_WITHIN, _OVER, _INK = "#0072B2", "#D55E00", "#333333"
_BINS = 60


class TokenLengths:
    """Token counts of answers and of whole examples, and how many examples are longer than the model's window.

    An answer's length is that of its plain text. An example's is that of the rendered ``text`` (prompt and answer) plus
    ``special_tokens``, so that the examples over ``max_length`` are those that training cuts.
    """

    def __init__(
        self,
        count_tokens: CountTokens,
        max_length: int,
        special_tokens: int = 0,
        sources: int = 0,
        source_tokens: int = 0,
    ) -> None:
        """Create a counter without rows.

        Args:
            count_tokens: counts the tokens of each of many texts, without special tokens of its own.
            max_length: the longest example in tokens, ``model.max_length``.
            special_tokens: what training adds to a rendered text: one end token, and one BOS where the model has one.
            sources: passages before each question. Which ones is not known yet, so their length is estimated, as that
                of an answer of which no more is learned than is shown.
            source_tokens: of each at most, without its title.
        """
        self._source_tokens = source_tokens if sources else None
        self._block_tokens = sources * (source_tokens + _TITLE_TOKENS)
        self._count_tokens = count_tokens
        self._max_length = max_length
        self._special_tokens = special_tokens
        self._answers: list[str] = []
        self._texts: list[str] = []
        self._answer_lengths = array("i")
        self._example_lengths = array("i")
        self._passage_lengths = array("i")
        self.rows_cut = 0  # rows that lose earlier turns
        self.turns_left_out = 0

    def add(self, answer: str, text: str) -> None:
        """Count one row, many at once: the answer alone, and prompt and answer as they are rendered."""
        self._answers.append(answer)
        self._texts.append(text)
        if len(self._answers) == BATCH_ROWS:
            self._flush()

    def add_passages(self, texts: Sequence[str]) -> None:
        """Count passages of documents, where there are sources."""
        if self._source_tokens is not None:
            for start in range(0, len(texts), BATCH_ROWS):
                self._passage_lengths.extend(self._count_tokens(texts[start : start + BATCH_ROWS]))

    def summary(self) -> dict[str, Any]:
        """Return ``tokens`` of the report: percentiles of the answers' tokens, number of examples over the limit."""
        self._flush()
        lengths = sorted(self._answer_lengths)
        shares = {"p50": 0.5, "p90": 0.9, "p99": 0.99, "max": 1.0}
        summary: dict[str, Any] = {
            "answer": {name: percentile(lengths, share) for name, share in shares.items()},
            "longer_than_max_length": self._num_longer(),
        }
        if self.rows_cut:
            summary |= {"rows_cut_at_turns": self.rows_cut, "turns_left_out": self.turns_left_out}
        if self._passage_lengths:
            summary["passages_longer_than_source_tokens"] = self._num_passages_longer()
        return summary

    def _passage_advice(self) -> str:
        """Return a line on passages that are longer than ``source_tokens``; empty: there are none."""
        longer = self._num_passages_longer()
        if not longer:
            return ""
        return (
            f"\n{longer:,} of {len(self._passage_lengths):,} passages of the documents are longer than "
            f"prompt.source_tokens = {self._source_tokens}: a model is shown only their beginning "
            f"(the longest: {max(self._passage_lengths):,} tokens)"
        )

    def advice(self) -> str:
        """Return a line on what training will do with the examples that are longer than ``max_length``.

        Another one follows where passages are longer than ``source_tokens``.
        """
        self._flush()
        lengths = sorted(self._example_lengths)
        longer, rows, longest = self._num_longer(), len(lengths), percentile(lengths, 1.0)
        limit = f"model.max_length = {self._max_length:,}"
        if self._source_tokens is not None:
            limit += ", sources included (estimated)"
        if not longer:
            return f"each of the {rows:,} rows fits {limit} (the longest: {longest:,} tokens){self._passage_advice()}"
        are, answers = ("is", "its answer") if longer == 1 else ("are", "their answers")
        p99 = percentile(lengths, 0.99)
        tail = f"p99 of an example: {p99:,} tokens" if p99 > self._max_length else f"the longest: {longest:,} tokens"
        return (
            f"{longer:,} of {rows:,} rows ({100 * longer / rows:.1f} %) {are} longer than {limit}: "
            f"training cuts {answers} at a sentence end, without end token; "
            f"raise model.max_length to keep more ({tail}){self._passage_advice()}"
        )

    def draw(self, path: Path) -> None:
        """Write the histograms of both lengths as a PNG file, as ``draw_lengths`` does."""
        self._flush()
        draw_lengths(self._answer_lengths, self._example_lengths, self._max_length, path)

    def _num_passages_longer(self) -> int:
        return sum(length > (self._source_tokens or 0) for length in self._passage_lengths)

    def _num_longer(self) -> int:
        return sum(length > self._max_length for length in self._example_lengths)

    def _flush(self) -> None:
        if self._answers:
            answers, texts = self._count_tokens(self._answers), self._count_tokens(self._texts)
            self._answer_lengths.extend(answers)
            added = self._special_tokens + self._block_tokens
            for answer, text in zip(answers, texts, strict=True):
                hidden = 0 if self._source_tokens is None else max(0, answer - self._source_tokens)
                self._example_lengths.append(text - hidden + added)
            self._answers, self._texts = [], []


def percentile(ordered: Sequence[int], share: float) -> int:
    """Return the smallest of ascending values, at least one, that this share of them does not exceed (nearest rank)."""
    return ordered[max(math.ceil(share * len(ordered)) - 1, 0)]


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
    from matplotlib.ticker import NullLocator

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
        lower.set_xscale("log")
        lower.set_xlim(edges[0], edges[-1])
        ticks = [step * 10**power for power in range(7) for step in (1, 2, 5)]
        lower.set_xticks([tick for tick in ticks if edges[0] <= tick <= edges[-1]])
        lower.xaxis.set_major_formatter("{x:,.0f}")
        lower.xaxis.set_minor_locator(NullLocator())
        lower.set_xlabel("tokens (logarithmic)", color=_INK)
        picture = io.BytesIO()
        figure.savefig(picture, format="png", metadata={"Software": None})
    path.write_bytes(picture.getvalue())


def _edges(shortest: int, longest: int, max_length: int) -> NDArray[np.float64]:
    """Return bin edges between whole numbers, about evenly spaced on a logarithmic axis, one of them at the limit."""
    low, high = min(shortest, max_length), max(longest, max_length)
    step = max(math.log((high + 1) / low) / _BINS, 0.01)
    powers = np.arange(-math.ceil(math.log(max_length / low) / step), math.ceil(math.log(high / max_length) / step) + 1)
    edges = np.floor((max_length + 0.5) * np.exp(powers * step)) + 0.5
    return np.unique(np.clip([low - 0.5, *edges, high + 0.5], low - 0.5, high + 0.5))


def _draw_histogram(axes: Any, title: str, lengths: Sequence[int], edges: NDArray[np.float64], max_length: int) -> None:
    from matplotlib.ticker import MaxNLocator

    # An empty text counts with the shortest: a logarithmic axis has no zero.
    values = np.maximum(np.asarray(lengths), 1)
    over = values > max_length
    for part, color in ((values[~over], _WITHIN), (values[over], _OVER)):
        axes.hist(part, bins=edges, color=color, edgecolor="white", linewidth=0.4)
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
