"""Counts tokens of the rows as they are written; sums them up for the report, in a sentence and as a picture.

Keeps two whole numbers of four bytes for each row, no texts. Does not load tokenizers; ``lengths_plot`` draws.
"""

from __future__ import annotations

import math
from array import array
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from medqa_cli.data.lengths_plot import draw_lengths

BATCH_ROWS = 512

CountTokens = Callable[[Sequence[str]], list[int]]


class TokenLengths:
    """Token counts of answers and of whole examples, and how many examples are longer than the model's window.

    An answer's length is that of its plain text. An example's is that of the rendered ``text`` (prompt and answer) plus
    ``special_tokens``, so that the examples over ``max_length`` are those that training cuts.
    """

    def __init__(self, count_tokens: CountTokens, max_length: int, special_tokens: int = 0) -> None:
        """Start with no rows.

        Args:
            count_tokens: counts the tokens of each of many texts, without special tokens of its own.
            max_length: the longest example in tokens, ``model.max_length``.
            special_tokens: what training adds to a rendered text: one end token, and one BOS where the model has one.
        """
        self._count_tokens = count_tokens
        self._max_length = max_length
        self._special_tokens = special_tokens
        self._answers: list[str] = []
        self._texts: list[str] = []
        self._answer_lengths = array("i")
        self._example_lengths = array("i")

    def add(self, answer: str, text: str) -> None:
        """Count one row; tokenizers are called for many rows at once.

        Args:
            answer: the answer alone.
            text: prompt and answer, rendered by the contract.
        """
        self._answers.append(answer)
        self._texts.append(text)
        if len(self._answers) == BATCH_ROWS:
            self._flush()

    def summary(self) -> dict[str, Any]:
        """Return ``tokens`` of the report: percentiles of the answers' tokens, number of examples over the limit."""
        self._flush()
        lengths = sorted(self._answer_lengths)
        shares = {"p50": 0.5, "p90": 0.9, "p99": 0.99, "max": 1.0}
        return {
            "answer": {name: percentile(lengths, share) for name, share in shares.items()},
            "longer_than_max_length": self._num_longer(),
        }

    def advice(self) -> str:
        """Return one sentence on what training will do with the examples that are longer than ``max_length``."""
        self._flush()
        lengths = sorted(self._example_lengths)
        longer, rows, longest = self._num_longer(), len(lengths), percentile(lengths, 1.0)
        limit = f"model.max_length = {self._max_length:,}"
        if not longer:
            return f"each of the {rows:,} rows fits {limit} (the longest: {longest:,} tokens)"
        are, answers = ("is", "its answer") if longer == 1 else ("are", "their answers")
        p99 = percentile(lengths, 0.99)
        tail = f"p99 of an example: {p99:,} tokens" if p99 > self._max_length else f"the longest: {longest:,} tokens"
        return (
            f"{longer:,} of {rows:,} rows ({100 * longer / rows:.1f} %) {are} longer than {limit}: "
            f"training cuts {answers} at a sentence end, without end token; "
            f"raise model.max_length to keep more ({tail})"
        )

    def draw(self, path: Path) -> None:
        """Write the histograms of both lengths as a PNG file; the same lengths give the same bytes.

        Args:
            path: the file to write.

        Raises:
            OSError: it cannot be written.
        """
        self._flush()
        draw_lengths(self._answer_lengths, self._example_lengths, self._max_length, path)

    def _num_longer(self) -> int:
        return sum(length > self._max_length for length in self._example_lengths)

    def _flush(self) -> None:
        if self._answers:
            self._answer_lengths.extend(self._count_tokens(self._answers))
            self._example_lengths.extend(count + self._special_tokens for count in self._count_tokens(self._texts))
            self._answers, self._texts = [], []


def percentile(ordered: Sequence[int], share: float) -> int:
    """Return the smallest value that at least this share of the values does not exceed (nearest rank).

    Args:
        ordered: the values, ascending, at least one.
        share: from 0 to 1.

    Returns:
        one of the values.
    """
    return ordered[max(math.ceil(share * len(ordered)) - 1, 0)]
