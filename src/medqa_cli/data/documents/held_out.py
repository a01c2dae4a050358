"""How many held-out answers stand in the documents: whoever may look there answers such questions from an open book."""

import itertools
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from medqa_cli.data.dataset import iterate_split
from medqa_cli.data.minhash import SHORT_RUNS, num_words, shingle_sets
from medqa_cli.data.normalize import key_of, normalize
from medqa_cli.data.sketches import MOST_SIGNS_OF_AN_OPTION, MOST_WORDS_OF_AN_OPTION

_ROWS_AT_A_TIME = 1024


class DocumentRuns:
    """The runs of five words that stand in the documents, and the questions that tables among them answer.

    Args:
        texts: those of the documents, at least one: a section or an answer each.
        pairs: the questions and answers of tables.
        threshold: share of an answer's runs from which on it stands in the documents.
    """

    def __init__(self, texts: Sequence[str], pairs: Sequence[tuple[str, str]], threshold: float) -> None:
        self._runs = np.unique(np.concatenate(list(shingle_sets(map(normalize, texts)))))
        self._pairs = {key_of(normalize(question), normalize(answer)) for question, answer in pairs}
        self._threshold = threshold

    def count(self, folder: Path) -> dict[str, int]:
        """Return for validation and test how many rows of a data folder have their answers in the documents."""
        counts = dict.fromkeys(("validation", "test"), 0)
        for split in counts:
            rows = ((normalize(row.question), normalize(row.answer)) for row in iterate_split(folder, split))
            while some := list(itertools.islice(rows, _ROWS_AT_A_TIME)):
                sets = shingle_sets(answer for _, answer in some)
                counts[split] += sum(self._holds(*texts, runs) for texts, runs in zip(some, sets, strict=True))
        return counts

    def _holds(self, question: str, answer: str, runs: NDArray[np.uint64]) -> bool:
        words, are_signs = num_words(answer)
        if words <= (MOST_SIGNS_OF_AN_OPTION if are_signs else MOST_WORDS_OF_AN_OPTION):
            # Yes, an option: it says little without its question.
            return key_of(question, answer) in self._pairs
        at = np.searchsorted(self._runs, runs)
        at[at == len(self._runs)] = 0
        share = float(np.count_nonzero(self._runs[at] == runs)) / len(runs)
        # In a short answer another word is another answer.
        return share >= (1.0 if len(runs) < SHORT_RUNS else self._threshold)
