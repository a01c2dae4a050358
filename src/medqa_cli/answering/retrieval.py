"""Retrieve the nearest reference answers of the training split, for a person who wants to check an answer.

BM25 as SQLite's FTS5 ranks it, over questions and answers, in memory. The model never sees what is found here.
"""

from __future__ import annotations

import re
import sqlite3
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

from medqa_cli.data.dataset import iterate_split
from medqa_cli.errors import MedqaError
from medqa_cli.prompt.sentence_ends import sentence_ends

# Of the question's words, each weighed by its rarity, so many must stand in a reference question and answer.
CLOSE = 0.5
# Of a sentence's words so many must stand in one of the references that are shown.
SUPPORTED = 0.5
_QUESTION_WEIGHT = 3.0  # a word of the question says more about a row than one of a long answer
_CANDIDATES = 20
_WORD = re.compile(r"\w+")
_STOP_WORDS = frozenset(
    _WORD.findall(
        "a about after all also an and any are as at be been but by can could do does for from give had has have how "
        "i if in into is it its may me more most much my no not of often on one or other our out she should so some "
        "such than that the their them there these they this to up used was we were what when where which who why "
        "will with would you your"
    )
)


@dataclass(frozen=True)
class Reference:
    """A row of the training split; ``score``: BM25, higher is nearer, to be compared within one question only."""

    id: str
    question: str
    answer: str
    topic: str
    source: str
    score: float


class References:
    """The training split, ready to be searched.

    Args:
        data_dir: the folder that ``medqa convert`` wrote.

    Raises:
        InputError: there is no data.
        MedqaError: this Python's SQLite cannot search texts.
    """

    def __init__(self, data_dir: Path) -> None:
        self._rows = [row for row in iterate_split(data_dir, "train") if not row.paraphrase_of]
        self._index = sqlite3.connect(":memory:")
        try:
            self._index.execute("CREATE VIRTUAL TABLE rows USING fts5(question, answer, tokenize = 'porter unicode61')")
            self._index.execute("CREATE VIRTUAL TABLE words USING fts5vocab(rows, row)")
        except sqlite3.OperationalError as error:
            raise MedqaError(f"--sources needs a SQLite with FTS5: {error}", "ask without --sources") from error
        self._index.executemany(
            "INSERT INTO rows(rowid, question, answer) VALUES (?, ?, ?)",
            ((number, row.question, row.answer) for number, row in enumerate(self._rows)),
        )

    def nearest(self, question: str, count: int) -> list[Reference]:
        """Return at most ``count`` rows, the nearest first; none where nothing in the data is close."""
        words = content_words(question)
        if not words:
            return []
        query = " OR ".join(f'"{word}"' for word in words)
        found = self._index.execute(
            "SELECT rowid, bm25(rows, ?, 1.0) FROM rows WHERE rows MATCH ? ORDER BY 2 LIMIT ?",
            (_QUESTION_WEIGHT, query, max(count, _CANDIDATES)),
        ).fetchall()
        close = [(self._rows[number], -score) for number, score in found if self._is_close(words, number)]
        return [
            Reference(row.id, row.question, row.answer, row.topic, row.source, round(score, 3))
            for row, score in close[:count]
        ]

    def _is_close(self, words: Sequence[str], number: int) -> bool:
        total = held = 0.0
        for word in words:
            term = f'"{word}"'
            (num_rows,) = self._index.execute("SELECT count(*) FROM rows WHERE rows MATCH ?", (term,)).fetchone()
            weight = 1 / (1 + num_rows)
            total += weight
            query = "SELECT 1 FROM rows WHERE rows MATCH ? AND rowid = ?"
            if self._index.execute(query, (term, number)).fetchone() is not None:
                held += weight
        return held >= CLOSE * total


def content_words(text: str) -> list[str]:
    """Return the words of a text that carry its meaning, in small letters, each once, in their order."""
    words = (word for word in _WORD.findall(text.lower()) if word not in _STOP_WORDS and len(word) > 1)
    return list(dict.fromkeys(words))


def unsupported_sentences(answer: str, references: Sequence[Reference]) -> list[str]:
    """Return the sentences of an answer whose words stand in none of the references.

    A hint, no proof: words in common are not a meaning in common, and a true sentence may be worded otherwise.
    """
    known = [{_stem(word) for word in content_words(f"{each.question} {each.answer}")} for each in references]
    unsupported = []
    for start, end in pairwise([0, *sentence_ends(answer)]):
        sentence = answer[start:end].strip()
        words = {_stem(word) for word in content_words(sentence)}
        if words and not any(len(words & reference) >= SUPPORTED * len(words) for reference in known):
            unsupported.append(sentence)
    return unsupported


def _stem(word: str) -> str:
    """Cut endings off roughly; it only has to bring ``symptoms`` and ``symptom`` together."""
    for ending in ("ing", "es", "ed", "s"):
        if word.endswith(ending) and len(word) - len(ending) >= 4:
            return word[: -len(ending)]
    return word


def as_json(references: Sequence[Reference]) -> list[dict[str, Any]]:
    """Return what ``ask --json`` prints under ``sources``."""
    return [asdict(reference) for reference in references]
