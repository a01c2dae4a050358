"""Counts tokens of the rows as they are written and sums them up for the report. Keeps numbers only, no texts."""

from __future__ import annotations

import math
from array import array
from collections.abc import Callable, Sequence
from typing import Any

BATCH_ROWS = 512

CountTokens = Callable[[Sequence[str]], list[int]]


class TokenLengths:
    """Token counts of answers, and how many whole examples are longer than the model's window."""

    def __init__(self, count_tokens: CountTokens, max_length: int) -> None:
        self._count_tokens = count_tokens
        self._max_length = max_length
        self._answers: list[str] = []
        self._texts: list[str] = []
        self._answer_lengths = array("q")
        self._longer = 0

    def add(self, answer: str, text: str) -> None:
        """Count one row; tokenizers are called for many rows at once."""
        self._answers.append(answer)
        self._texts.append(text)
        if len(self._answers) == BATCH_ROWS:
            self._flush()

    def summary(self) -> dict[str, Any]:
        """Return ``tokens`` of the report."""
        self._flush()
        lengths = sorted(self._answer_lengths)
        shares = {"p50": 0.5, "p90": 0.9, "p99": 0.99, "max": 1.0}
        return {
            "answer": {name: percentile(lengths, share) for name, share in shares.items()},
            "longer_than_max_length": self._longer,
        }

    def _flush(self) -> None:
        if self._answers:
            self._answer_lengths.extend(self._count_tokens(self._answers))
            self._longer += sum(count > self._max_length for count in self._count_tokens(self._texts))
            self._answers, self._texts = [], []


def percentile(ordered: Sequence[int], share: float) -> int:
    """Return the smallest value that at least this share of the values does not exceed (nearest rank)."""
    return ordered[max(math.ceil(share * len(ordered)) - 1, 0)]
